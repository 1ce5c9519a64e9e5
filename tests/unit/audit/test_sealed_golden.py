"""The form of a sealed part, held by a golden one and by the steps of the standard that it follows."""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from audit.entry import Draft
from audit.listing import decode
from audit.note import Checkpoint
from audit.read import LogReader
from audit.sealed_store import EpochKey, SealedPart
from audit.sealing import Sealer, _decode, _encode, unsealed
from comity.commitment import LABELS
from comity.errors import LogFault
from comity.inquiry import Disclosure
from identity.auditors import AuditorKey
from tests.golden.audit import samples
from tests.golden.audit.samples import HERE
from tests.golden.audit.sealed import AUDITOR, EPOCH_KEY, values
from tests.unit.audit import sealed

WRITTEN_BY_THE_LOG = {"v", "type", "at", "head", "peers", "sealed"}


class GoldenReader(LogReader):
    """A reader of the golden entry and sealed part alone."""

    def __init__(self) -> None:
        self.sample = json.loads((HERE / "sealed-part.json").read_bytes())

    def head(self) -> tuple[int, bytes]:
        return 1, Checkpoint(origin=self.sample["origin"], size=1, root=bytes(32)).sign(samples.KEY)

    def entry(self, index: int) -> bytes:
        assert index == 0
        return (HERE / "inquiry-sealed.json").read_bytes()

    def sealed_part(self, index: int) -> SealedPart:
        assert index == 0
        wrapped, part = (b64decode(self.sample[name]) for name in ("wrapped", "part"))
        return SealedPart(self.sample["key_id"], wrapped, part)

    def epoch_keys(self) -> list[EpochKey]:
        return [EpochKey(**self.sample["epoch"] | {"sealed": b64decode(self.sample["epoch"]["sealed"])})]


def test_the_golden_sealed_part_opens_with_its_auditors_key() -> None:
    reader = GoldenReader()
    private = X25519PrivateKey.from_private_bytes(bytes.fromhex(reader.sample["auditor_private_key"]))
    clear = unsealed(reader, 0, AuditorKey(private=private))
    said = (clear.plate, clear.state, clear.case_number, clear.authority_reference)
    assert said == ("7ABC123", "CA", "PA-26-0101", "an order")


def test_the_golden_epoch_key_opens_by_the_steps_of_rfc_9180() -> None:
    epoch = GoldenReader().sample["epoch"]
    info = "\0".join(("comity-epoch-key-1", samples.ORIGIN, epoch["month"])).encode()
    assert hpke_open(b64decode(epoch["sealed"]), AUDITOR, info) == EPOCH_KEY


@pytest.mark.parametrize("piece", ["wrapped", "part", "epoch"])
def test_a_golden_sealed_part_with_any_one_bit_changed_does_not_open(piece: str) -> None:
    reader = GoldenReader()
    whole = reader.sample["epoch"]["sealed"] if piece == "epoch" else reader.sample[piece]
    for at in range(len(b64decode(whole))):
        data = bytearray(b64decode(whole))
        data[at] ^= 1 << at % 8
        changed = b64encode(data).decode()
        if piece == "epoch":
            reader.sample["epoch"] |= {"sealed": changed}
        else:
            reader.sample[piece] = changed
        with pytest.raises(LogFault) as refused:
            unsealed(reader, 0, AuditorKey(private=AUDITOR))
        assert refused.value.reason == "SEALED_MISMATCH"


@given(st.dictionaries(st.sampled_from(LABELS), st.binary(max_size=1024), min_size=1))
def test_what_is_sealed_comes_back_byte_for_byte(said: dict[str, bytes]) -> None:
    disclosures = tuple(Disclosure.fresh(label, value) for label, value in said.items())
    assert _decode(_encode(disclosures)) == disclosures


def hpke_open(sealed_key: bytes, private: X25519PrivateKey, info: bytes) -> bytes:
    """The steps of RFC 9180 sections 4.1, 5.1 and 5.2, with HMAC, X25519 and AES-GCM and nothing else."""
    enc, ciphertext = sealed_key[:32], sealed_key[32:]
    public = private.public_key().public_bytes_raw()
    kem, hpke = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x02"

    def extract(salt: bytes, suite: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")

    def expand(prk: bytes, suite: bytes, label: bytes, context: bytes, length: int) -> bytes:
        labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context
        return hmac.digest(prk, labeled + b"\1", "sha256")[:length]

    shared = private.exchange(X25519PublicKey.from_public_bytes(enc))
    secret = expand(extract(b"", kem, b"eae_prk", shared), kem, b"shared_secret", enc + public, 32)
    context = b"\0" + extract(b"", hpke, b"psk_id_hash", b"") + extract(b"", hpke, b"info_hash", info)
    schedule = extract(secret, hpke, b"secret", b"")
    key, nonce = (expand(schedule, hpke, name, context, n) for name, n in ((b"key", 32), (b"base_nonce", 12)))
    return AESGCM(key).decrypt(nonce, ciphertext, b"")


def test_a_sealed_part_is_written_as_the_golden_one_but_for_its_random_keys() -> None:
    golden = GoldenReader()
    _, first = sealed.auditor()
    clear = values(samples.SALT)
    entry = decode(0, golden.entry(0))
    draft = Draft("inquiry", {k: v for k, v in entry.items() if k not in WRITTEN_BY_THE_LOG}, clear)
    part = Sealer(golden.sample["origin"], [first]).seal(draft, entry["at"])
    assert part is not None
    assert [len(piece) for piece in part[1:]] == [len(piece) for piece in golden.sealed_part(0)[1:]]
    assert part.wrapped[:12] == golden.sealed_part(0).wrapped[:12]
