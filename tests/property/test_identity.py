"""Names, envelopes and the directory under inputs that nobody thought of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comity.envelope import INQUIRY_TYPE
from comity.errors import ComityError, ConfigError, InvalidInput, NotAuthentic
from identity import dsse, keys
from identity.directory import Directory
from identity.names import KINDS, SpiffeId
from identity.signing import verify_envelope
from identity.verify import verify_chain
from tests.unit.identity.world import NOW, World

IDENTIFIERS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
NAMES = st.builds(SpiffeId, trust_domain=IDENTIFIERS, kind=st.sampled_from(KINDS), id=IDENTIFIERS)
KEY = keys.new_signing_key()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def directory(world: World) -> Directory:
    return world.directory()


@pytest.fixture(scope="module")
def signed_directory(world: World) -> bytes:
    return world.signed_directory()


def parsed(text: str) -> SpiffeId | None:
    try:
        return SpiffeId.parse(text)
    except InvalidInput:
        return None


@pytest.fixture(scope="module")
def leaf(world: World) -> bytes:
    return world.person().chain[0]


@given(NAMES)
def test_every_name_reads_back_from_its_text(name: SpiffeId) -> None:
    assert SpiffeId.parse(str(name)) == name


@given(st.one_of(st.text(), st.builds("spiffe://{}/{}/{}".format, st.text(), st.sampled_from(KINDS), st.text())))
def test_a_text_is_one_spelling_of_a_name_or_none(text: str) -> None:
    name = parsed(text)
    assert name is None or (str(name) == text and text.isascii() and text == text.lower())


@given(NAMES, st.data())
def test_a_look_alike_letter_never_passes_for_a_name(name: SpiffeId, data: st.DataObject) -> None:
    text = str(name)
    at = data.draw(st.integers(len("spiffe://"), len(text) - 1))
    odd = data.draw(st.sampled_from("аеорсух\u0131\u017f\u212aA/_.%:@?# \t\n\0\u200b\u00ad-"))
    changed = text[:at] + odd + text[at + 1 :]
    accepted = parsed(changed)
    assert accepted is None or (odd == "-" and str(accepted) == changed)


@given(st.text(min_size=1, max_size=60), st.binary(max_size=300))
def test_a_signed_file_gives_back_exactly_what_was_signed(payload_type: str, payload: bytes) -> None:
    data = dsse.sign_with_key(payload_type, payload, KEY)
    assert dsse.verify_with_keys(data, [KEY.public_key()], payload_type=payload_type) == payload


@given(st.binary(max_size=300))
def test_bytes_that_are_no_signed_file_are_refused_and_never_crash(data: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        dsse.dsse_json_decode(data, payload_type=INQUIRY_TYPE)
    assert refused.value.reason == "BAD_ENVELOPE"


@given(payload=st.binary(min_size=1, max_size=200), data=st.data())
@settings(max_examples=50)
def test_no_changed_byte_of_an_envelope_is_accepted(
    world: World, directory: Directory, payload: bytes, data: st.DataObject
) -> None:
    signed = world.person().sign(INQUIRY_TYPE, payload)
    at, flip = data.draw(st.integers(0, len(payload) - 1)), data.draw(st.integers(1, 255))
    changed = payload[:at] + bytes((payload[at] ^ flip,)) + payload[at + 1 :]
    assert verify_envelope(signed, directory, NOW)[0].id == "t-reyes"
    with pytest.raises(NotAuthentic) as refused:
        verify_envelope(replace(signed, payload=changed), directory, NOW)
    assert refused.value.reason == "BAD_SIGNATURE"


@given(data=st.data())
@settings(max_examples=200)
def test_no_changed_byte_of_a_certificate_is_accepted(directory: Directory, leaf: bytes, data: st.DataObject) -> None:
    at, flip = data.draw(st.integers(0, len(leaf) - 1)), data.draw(st.integers(1, 255))
    changed = leaf[:at] + bytes((leaf[at] ^ flip,)) + leaf[at + 1 :]
    with pytest.raises(NotAuthentic) as refused:
        verify_chain((changed,), directory, NOW)
    assert refused.value.reason in {"BAD_CERTIFICATE", "WRONG_AUTHORITY"}


@given(data=st.data())
@settings(max_examples=200)
def test_no_changed_byte_of_a_directory_is_accepted(world: World, signed_directory: bytes, data: st.DataObject) -> None:
    at, flip = data.draw(st.integers(0, len(signed_directory) - 1)), data.draw(st.integers(1, 255))
    changed = bytearray(signed_directory)
    changed[at] ^= flip
    with pytest.raises(ConfigError) as refused:
        Directory.parse(bytes(changed), world.federation.certificate)
    assert refused.value.reason in {"DIRECTORY_MALFORMED", "DIRECTORY_SIGNATURE"}


@given(st.binary(max_size=2000))
def test_any_bytes_as_a_chain_are_refused_on_purpose(directory: Directory, data: bytes) -> None:
    with pytest.raises(ComityError) as refused:
        verify_chain((data,), directory, NOW)
    assert refused.value.reason == "BAD_CERTIFICATE"


@given(st.binary(max_size=400))
def test_any_bytes_as_a_directory_are_refused_on_purpose(world: World, data: bytes) -> None:
    folder: Path = world.root
    (folder / "any.json").write_bytes(data)
    with pytest.raises(ConfigError) as refused:
        Directory.load(folder / "any.json", folder / "test-exchange" / "ca.pem")
    assert refused.value.reason == "DIRECTORY_MALFORMED"
