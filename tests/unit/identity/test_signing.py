"""Signed envelopes: every signature counts, and every changed byte is seen."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from comity.envelope import BUNDLE_TYPE, INQUIRY_TYPE, OUTCOME_TYPE, Envelope, Signature
from comity.errors import ComityError, ConfigError, InvalidInput, NotAuthentic
from identity import certificates, dsse, keys
from identity.directory import Directory
from identity.signing import Signer, verify_envelope
from tests.unit.identity.world import ALDER, NOW, World, forge, name

PAYLOAD = b"the exact bytes"


def reason_of(envelope: Envelope, directory: Directory, at: dt.datetime = NOW, kind: str | None = None) -> str:
    with pytest.raises(ComityError) as refused:
        verify_envelope(envelope, directory, at, kind=kind)
    return refused.value.reason


def test_the_author_comes_first_and_an_approver_after(world: World, directory: Directory) -> None:
    author, approver = world.person("t-reyes"), world.person("s-cole", role="supervisor")
    signed = approver.countersign(author.sign(INQUIRY_TYPE, PAYLOAD))
    who = verify_envelope(signed, directory, NOW, kind="person")
    assert [(i.id, i.role) for i in who] == [("t-reyes", "investigator"), ("s-cole", "supervisor")]
    assert signed.payload == PAYLOAD


def test_an_envelope_survives_the_wire_byte_for_byte(world: World, directory: Directory) -> None:
    signed = world.person().sign(INQUIRY_TYPE, PAYLOAD)
    again = Envelope.parse(signed.encode(), payload_type=INQUIRY_TYPE)
    assert again == signed
    assert verify_envelope(again, directory, NOW)[0].agency == ALDER


def test_a_changed_payload_is_refused(world: World, directory: Directory) -> None:
    signed = world.person().sign(INQUIRY_TYPE, PAYLOAD)
    assert reason_of(replace(signed, payload=PAYLOAD + b"!"), directory) == "BAD_SIGNATURE"


def test_the_same_payload_under_another_type_is_refused(world: World, directory: Directory) -> None:
    signed = world.person().sign(INQUIRY_TYPE, PAYLOAD)
    assert reason_of(replace(signed, payload_type=OUTCOME_TYPE), directory) == "BAD_SIGNATURE"


def test_a_good_signature_does_not_cover_for_a_bad_one(world: World, directory: Directory) -> None:
    signed = world.person().sign(INQUIRY_TYPE, PAYLOAD)
    other = world.person("s-cole").sign(INQUIRY_TYPE, b"something else").signatures[0]
    assert reason_of(replace(signed, signatures=(*signed.signatures, other)), directory) == "BAD_SIGNATURE"


def test_a_signature_with_another_persons_certificate_is_refused(world: World, directory: Directory) -> None:
    signed = world.person().sign(INQUIRY_TYPE, PAYLOAD)
    swapped = Signature(signature=signed.signatures[0].signature, chain=world.person("s-cole").chain)
    assert reason_of(replace(signed, signatures=(swapped,)), directory) == "BAD_SIGNATURE"


def test_nobody_approves_their_own_inquiry_with_a_renewed_certificate(world: World, directory: Directory) -> None:
    first, renewed = world.person("t-reyes"), world.person("t-reyes", role="supervisor")
    assert reason_of(renewed.countersign(first.sign(INQUIRY_TYPE, PAYLOAD)), directory) == "DUPLICATE_SIGNER"


def test_one_key_under_two_names_is_one_signer(world: World, directory: Directory) -> None:
    key = keys.new_signing_key()
    first, second = world.person("t-reyes", key=key), world.person("s-cole", key=key, role="supervisor")
    assert reason_of(second.countersign(first.sign(INQUIRY_TYPE, PAYLOAD)), directory) == "DUPLICATE_SIGNER"


def test_signing_the_same_thing_again_is_refused_at_once(world: World) -> None:
    author = world.person()
    with pytest.raises(InvalidInput) as refused:
        author.countersign(author.sign(INQUIRY_TYPE, PAYLOAD))
    assert refused.value.reason == "DUPLICATE_SIGNER"


def test_a_fifth_signature_is_refused(world: World) -> None:
    signed = world.person("p0").sign(INQUIRY_TYPE, PAYLOAD)
    for i in range(1, 4):
        signed = world.person(f"p{i}").countersign(signed)
    with pytest.raises(InvalidInput) as refused:
        world.person("p4").countersign(signed)
    assert refused.value.reason == "TOO_MANY_SIGNATURES"


def test_an_envelope_without_signatures_is_refused(directory: Directory) -> None:
    assert reason_of(Envelope(payload_type=INQUIRY_TYPE, payload=PAYLOAD, signatures=()), directory) == "BAD_ENVELOPE"


def test_a_node_does_not_sign_for_a_person(world: World, directory: Directory) -> None:
    node = world.signer(world.alder, name(ALDER, "node", "alder-1"))
    assert reason_of(node.sign(INQUIRY_TYPE, PAYLOAD), directory, kind="person") == "WRONG_KIND"


def test_an_expired_signer_is_refused_and_was_good_when_signing(world: World, directory: Directory) -> None:
    signed = world.person().sign(INQUIRY_TYPE, PAYLOAD)
    later = NOW + dt.timedelta(days=400)
    assert verify_envelope(signed, directory, NOW)[0].id == "t-reyes"
    assert reason_of(signed, directory, later) == "CERTIFICATE_EXPIRED"


def test_an_approver_is_judged_at_the_time_of_approving(world: World, directory: Directory) -> None:
    evening = NOW + dt.timedelta(hours=20)
    author, approver = world.person(), world.person("s-cole", role="supervisor", at=evening)
    signed = approver.countersign(author.sign(INQUIRY_TYPE, PAYLOAD))
    assert reason_of(signed, directory) == "CERTIFICATE_NOT_YET_VALID"
    assert len(verify_envelope(signed, directory, NOW, approvers_at=evening)) == 2


def test_a_stranger_is_refused_before_the_signature_is_looked_at(world: World, directory: Directory) -> None:
    leaf = forge(world.brazos, [f"spiffe://{ALDER}/person/t-reyes"])
    signed = replace(world.person().sign(INQUIRY_TYPE, PAYLOAD), signatures=(Signature(signature=b"x", chain=(leaf,)),))
    assert reason_of(signed, directory) == "WRONG_AUTHORITY"


def test_a_signer_with_another_key_than_its_certificates_is_refused(world: World) -> None:
    with pytest.raises(ConfigError) as refused:
        Signer(key=keys.new_signing_key(), chain=world.person().chain)
    assert refused.value.reason == "KEY_MISMATCH"


def test_a_signer_does_not_show_its_key(world: World) -> None:
    assert "key" not in repr(world.person())


def test_a_policy_bundle_is_proven_by_a_registered_key() -> None:
    key, other = keys.new_signing_key(), keys.new_signing_key()
    data = dsse.sign_with_key(BUNDLE_TYPE, PAYLOAD, key)
    assert dsse.verify_bundle_signature(data, [other.public_key(), key.public_key()]) == PAYLOAD


def encoded(*signatures: dsse.KeySignature, payload: bytes = PAYLOAD) -> bytes:
    return dsse.dsse_json_encode(dsse.KeyEnvelope(payload_type=BUNDLE_TYPE, payload=payload, signatures=signatures))


def test_a_policy_bundle_is_refused_with_its_reason() -> None:
    key, other = keys.new_signing_key(), keys.new_signing_key()
    good = dsse.dsse_json_decode(dsse.sign_with_key(BUNDLE_TYPE, PAYLOAD, key), payload_type=BUNDLE_TYPE)
    (mine,) = good.signatures
    borrowed = replace(mine, key_id=keys.key_id(other.public_key()))
    rows = {
        "an unregistered key": (encoded(mine), [other], "UNKNOWN_KEY"),
        "no registered key": (encoded(mine), [], "UNKNOWN_KEY"),
        "another payload": (encoded(mine, payload=b"other"), [key], "BAD_SIGNATURE"),
        "a signature under another's key id": (encoded(borrowed), [key, other], "BAD_SIGNATURE"),
        "one key twice": (encoded(mine, mine), [key], "DUPLICATE_SIGNER"),
        "no signature": (encoded(), [key], "BAD_ENVELOPE"),
        "five signatures": (encoded(*[mine] * 5), [key], "BAD_ENVELOPE"),
        "a key id that is no digest": (encoded(replace(mine, key_id="x")), [key], "BAD_ENVELOPE"),
        "a directory": (dsse.sign_with_key("application/other", PAYLOAD, key), [key], "BAD_ENVELOPE"),
        "no JSON": (b"{", [key], "BAD_ENVELOPE"),
        "a JSON list": (b"[]", [key], "BAD_ENVELOPE"),
        "nothing": (b"", [key], "BAD_ENVELOPE"),
    }
    got: dict[str, str] = {}
    for rule, (data, registered, _) in rows.items():
        with pytest.raises((NotAuthentic, InvalidInput)) as refused:
            dsse.verify_bundle_signature(data, [k.public_key() for k in registered])
        got[rule] = refused.value.reason
    assert got == {rule: reason for rule, (_, _, reason) in rows.items()}


@pytest.mark.parametrize("text", ["QQ", "QQ==\n", " QQ==", "QR==", "Q-_=", "====", 5, None, ["QQ=="]])
def test_only_canonical_base64_is_understood(text: object) -> None:
    with pytest.raises(ValueError, match=r"base64|text"):
        dsse.strict_base64(text)


def test_the_fingerprint_is_that_of_the_whole_certificate(world: World) -> None:

    leaf = x509.load_der_x509_certificate(world.person().chain[0])
    assert certificates.fingerprint(certificates.der(leaf)) == leaf.fingerprint(hashes.SHA256()).hex()
    assert certificates.fingerprints(leaf)[0] == leaf.fingerprint(hashes.SHA256()).hex()
