"""Auditors' keys and the pseudonym key: their files, what a directory says of them, and every way it is refused."""

from __future__ import annotations

import base64
import datetime as dt
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

import cli.directory  # noqa: F401  # adds its commands to the group
from audit.note import VerifierKey
from audit.pseudonym import PseudonymKey, pseudonym, pseudonym_key
from cli.demo.build import SAMPLE
from cli.identity import identity
from comity import jcs
from comity.envelope import DIRECTORY_TYPE
from comity.errors import ComityError, ConfigError, LogFault
from identity import auditors, dsse, keys
from identity.auditors import AuditorKey, Recipient, open_auditor_key, recipient_id
from identity.authority import Authority
from identity.directory import Directory, LogKey
from identity.pseudonym_key import SealedPseudonymKey
from tests.unit.identity.test_directory import payload_of
from tests.unit.identity.world import ALDER, FEDERATION, World

NAME = f"spiffe://{ALDER}/person/auditor-1"
LOG = LogKey(origin="test-exchange/broker/b1", key=keys.new_log_key().public_key(), program="broker", id="b1")


def made(name: str = NAME, logs: frozenset[str] | None = None) -> tuple[AuditorKey, Recipient]:
    key = AuditorKey(private=X25519PrivateKey.generate())
    return key, Recipient(name=name, key=key.private.public_key(), logs=logs)


def test_a_directory_names_its_auditors_with_their_keys_and_the_logs_they_may_unseal(world: World) -> None:
    (_, all_logs), (_, one_log) = made(), made(f"spiffe://{FEDERATION}/person/a-2", frozenset([LOG.origin]))
    d = world.directory(auditors=[all_logs, one_log], logs=[LOG])
    assert {a.name: (a.id, a.logs) for a in d.auditors} == {
        all_logs.name: (all_logs.id, None),
        one_log.name: (one_log.id, frozenset([LOG.origin])),
    }
    assert [a.reads("another/log") for a in d.auditors if a.logs] == [False]
    assert d.pseudonym_key is None


def test_a_directory_without_auditors_is_as_it_was(world: World) -> None:
    payload = payload_of(world.signed_directory())
    assert not {"auditors", "pseudonym_key"} & set(payload)
    assert world.directory().auditors == ()


def an_auditor(**changes: Any) -> dict[str, Any]:
    return {"key": "A" * 43 + "=", "logs": "all"} | changes


def of_low_order(payload: dict[str, Any]) -> None:
    payload["auditors"] = {NAME: an_auditor()}


GOOD = {"key": "CdB7B2f4DrYjPRyyBUj93Nxxc7eTNOAZJSgXhg2rYCs=", "logs": "all"}
BAD: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "a key with which nothing can be sealed": ("DIRECTORY_VALUE", of_low_order),
    "a key that is no text": ("DIRECTORY_VALUE", lambda p: p.update(auditors={NAME: an_auditor(key=7)})),
    "a key of 31 bytes": ("DIRECTORY_VALUE", lambda p: p.update(auditors={NAME: an_auditor(key="A" * 42)})),
    "an auditor without a name": ("DIRECTORY_VALUE", lambda p: p.update(auditors={"": GOOD})),
    "an auditor who is a node": (
        "DIRECTORY_UNREGISTERED",
        lambda p: p.update(auditors={f"spiffe://{ALDER}/node/alder-1": GOOD}),
    ),
    "an auditor of an agency that is not registered": (
        "DIRECTORY_UNREGISTERED",
        lambda p: p.update(auditors={"spiffe://us-xx/person/a": GOOD}),
    ),
    "a field too many": ("DIRECTORY_UNKNOWN_KEY", lambda p: p.update(auditors={NAME: GOOD | {"role": "x"}})),
    "a field too few": ("DIRECTORY_UNKNOWN_KEY", lambda p: p.update(auditors={NAME: {"key": GOOD["key"]}})),
    "no log at all, which could be taken for every one": (
        "DIRECTORY_VALUE",
        lambda p: p.update(auditors={NAME: GOOD | {"logs": []}}),
    ),
    "a log that the directory does not have": (
        "DIRECTORY_VALUE",
        lambda p: p.update(auditors={NAME: GOOD | {"logs": ["other/log"]}}),
    ),
    "one key for two auditors": (
        "DIRECTORY_VALUE",
        lambda p: p.update(auditors={NAME: GOOD, f"spiffe://{ALDER}/person/a-2": GOOD}),
    ),
    "more auditors than are allowed": (
        "DIRECTORY_VALUE",
        lambda p: p.update(
            auditors={
                f"spiffe://{ALDER}/person/a-{i}": GOOD | {"key": _raw(X25519PrivateKey.generate().public_key())}
                for i in range(65)
            }
        ),
    ),
    "auditors that are no table": ("DIRECTORY_VALUE", lambda p: p.update(auditors=[GOOD])),
    "a pseudonym key that is none": ("DIRECTORY_VALUE", lambda p: p.update(pseudonym_key={"id": "x"})),
    "a pseudonym key sealed to somebody else": (
        "DIRECTORY_UNREGISTERED",
        lambda p: p.update(pseudonym_key=SealedPseudonymKey.fresh(FEDERATION, [made()[1]]).as_json()),
    ),
}


@pytest.mark.parametrize(("reason", "change"), BAD.values(), ids=BAD)
def test_a_directory_is_refused_that_has(world: World, reason: str, change: Callable[[dict[str, Any]], None]) -> None:
    payload = payload_of(world.signed_directory())
    change(payload)
    data = dsse.sign_with_key(DIRECTORY_TYPE, jcs.encode(payload), world.federation.key)
    with pytest.raises(ConfigError) as refused:
        Directory.parse(data, world.federation.certificate)
    assert refused.value.reason == reason


def test_every_auditor_of_a_federation_computes_the_same_pseudonym(world: World) -> None:
    (one, first), (two, second) = made(), made(f"spiffe://{ALDER}/person/a-2")
    d = world.directory(auditors=[first, second], pseudonym_key=SealedPseudonymKey.fresh(FEDERATION, [first, second]))
    assert pseudonym(pseudonym_key(d, one), "7abc-123", "ca") == pseudonym(pseudonym_key(d, two), "7ABC123", "CA")


def test_nobody_but_the_auditors_opens_the_pseudonym_key(world: World) -> None:
    (_, first), (stranger, _) = made(), made()
    d = world.directory(auditors=[first], pseudonym_key=SealedPseudonymKey.fresh(FEDERATION, [first]))
    with pytest.raises(ComityError) as refused:
        pseudonym_key(d, stranger)
    assert refused.value.reason == "NOT_FOR_KEY"
    with pytest.raises(ConfigError) as none:
        pseudonym_key(world.directory(), stranger)
    assert none.value.reason == "NO_PSEUDONYM_KEY"


def test_a_pseudonym_key_of_another_federation_does_not_open(world: World) -> None:
    key, first = made()
    d = world.directory(auditors=[first], pseudonym_key=SealedPseudonymKey.fresh("other-exchange", [first]))
    with pytest.raises(LogFault) as refused:
        pseudonym_key(d, key)
    assert refused.value.reason == "SEALED_MISMATCH"


def test_an_auditor_shares_the_key_with_a_new_one_and_the_pseudonyms_stay(world: World) -> None:
    (old, first), (new, second) = made(), made(f"spiffe://{ALDER}/person/a-2")
    sealed = SealedPseudonymKey.fresh(FEDERATION, [first])
    shared = sealed.shared(old, FEDERATION, [first, second])
    before = world.directory(auditors=[first], pseudonym_key=sealed)
    after = world.directory(auditors=[first, second], pseudonym_key=shared)
    assert shared.id == sealed.id
    assert pseudonym(pseudonym_key(before, old), "7ABC123", "CA") == pseudonym(
        pseudonym_key(after, new), "7ABC123", "CA"
    )


KEY = PseudonymKey(federation=FEDERATION, id="0" * 16, secret=bytes(range(32)))
PLATES = st.text("ABCDEFGHJKLMNPRSTUVWXYZ0123456789", min_size=1, max_size=10)
STATES = st.sampled_from(["", "CA", "TX", "IL"])


def test_a_pseudonym_is_the_golden_one() -> None:
    assert pseudonym(KEY, "7ABC123", "CA") == "6c2byhqqp3o5vw6p"


@given(PLATES, STATES, PLATES, STATES)
def test_two_plates_have_one_pseudonym_only_if_they_are_one(a: str, in_a: str, b: str, in_b: str) -> None:
    same = pseudonym(KEY, a, in_a) == pseudonym(KEY, b, in_b)
    assert same == ((a, in_a) == (b, in_b))
    assert a not in pseudonym(KEY, a, in_a).upper() or len(a) < 4


@pytest.mark.parametrize("plate", ["", "ABCDEFGHIJ1", "7SТL042"], ids=["nothing", "too long", "a Cyrillic letter"])
def test_what_is_no_plate_has_no_pseudonym(plate: str) -> None:
    with pytest.raises(ComityError) as refused:
        pseudonym(KEY, plate, "CA")
    assert refused.value.reason == "BAD_PLATE"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(identity, [str(a) for a in arguments])


def test_the_command_makes_a_secret_key_and_a_public_one_that_fit(tmp_path: Path) -> None:
    key, public = tmp_path / "a.key", tmp_path / "a.pub"
    assert run("auditor-key", key, public).exit_code == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert open_auditor_key(key).id == recipient_id(auditors.load_public(public))
    assert isinstance(run("auditor-key", key, tmp_path / "b.pub").exception, ConfigError)


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    run("auditor-key", tmp_path / "a.key", tmp_path / "a.pub")
    (tmp_path / "a.key").chmod(mode)
    with pytest.raises(ConfigError) as refused:
        open_auditor_key(tmp_path / "a.key")
    assert refused.value.reason == "KEY_EXPOSED"


def test_another_kind_of_key_is_no_auditors(tmp_path: Path) -> None:
    keys.write_key(tmp_path / "a.key", keys.new_signing_key())
    with pytest.raises(ConfigError) as refused:
        open_auditor_key(tmp_path / "a.key")
    assert refused.value.reason == "BAD_KEY"
    with pytest.raises(ConfigError) as refused:
        auditors.load_public(tmp_path / "a.key")
    assert refused.value.reason == "BAD_KEY"


def test_a_pseudonym_key_is_made_shared_and_put_into_a_directory_by_commands(tmp_path: Path, world: World) -> None:
    for n in (1, 2):
        run("auditor-key", tmp_path / f"{n}.key", tmp_path / f"{n}.pub")
    first, both = tmp_path / "first.json", tmp_path / "both.json"
    common = ("pseudonym-key", "--federation", FEDERATION, "--auditor", tmp_path / "1.pub")
    assert run(*common, "--out", first).exit_code == 0
    shared = run(*common, "--auditor", tmp_path / "2.pub", "--from", first, "--key", tmp_path / "1.key", "--out", both)
    assert shared.exit_code == 0
    assert isinstance(
        run(*common, "--from", first, "--key", tmp_path / "2.key", "--out", tmp_path / "no.json").exception, ConfigError
    )
    public = [auditors.load_public(tmp_path / f"{n}.pub") for n in (1, 2)]
    names = (NAME, f"spiffe://{ALDER}/person/a-2")
    named = [Recipient(name=n, key=key, logs=None) for n, key in zip(names, public, strict=True)]
    d = world.directory(auditors=named, pseudonym_key=SealedPseudonymKey.read(both.read_bytes()))
    opened = [pseudonym_key(d, open_auditor_key(tmp_path / f"{n}.key")).secret for n in (1, 2)]
    assert opened[0] == opened[1]


def test_the_directory_command_names_auditors_and_carries_the_pseudonym_key(tmp_path: Path, world: World) -> None:
    run("auditor-key", tmp_path / "1.key", tmp_path / "1.pub")
    made_ = ("pseudonym-key", "--federation", "pacific-exchange", "--auditor", tmp_path / "1.pub")
    run(*made_, "--out", tmp_path / "p.json")
    top = Authority.create(tmp_path / "top", "pacific-exchange", at=dt.datetime.now(dt.UTC))
    spiffe, vkey = "spiffe://us-fbi/person/a-1", VerifierKey.of("pacific-exchange/broker/b1", LOG.key)
    (tmp_path / "log.vkey").write_text(f"{vkey}\n")
    common: tuple[object, ...] = (
        "directory",
        "--authority",
        tmp_path / "top",
        "--tables",
        SAMPLE,
        "--version",
        1,
        "--out",
        tmp_path / "d",
    )
    common += ("--log", tmp_path / "log.vkey", "--auditor-log", f"{spiffe}={vkey.name}")
    done = run(*common, "--auditor", f"{spiffe}={tmp_path / '1.pub'}", "--pseudonym-key", tmp_path / "p.json")
    assert done.exit_code == 0, done.output
    d = Directory.parse((tmp_path / "d").read_bytes(), top.certificate)
    assert [(a.name, a.logs) for a in d.auditors] == [(spiffe, frozenset([vkey.name]))]
    assert len(pseudonym_key(d, open_auditor_key(tmp_path / "1.key")).secret) == 32
    unnamed = run(*common)
    assert isinstance(unnamed.exception, ConfigError)
    assert unnamed.exception.reason == "BAD_AUDITOR"
    assert run(*common, "--auditor", spiffe).exit_code == 2


def _raw(key: X25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode()
