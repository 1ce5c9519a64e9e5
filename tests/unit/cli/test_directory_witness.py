"""`comity identity directory --witness`: whose cosignatures count is what the federation's operator pins."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from audit.cosignature import other_witnesses, witness_name, witnesses_of_brokers, witnesses_of_node
from audit.note import VerifierKey
from audit.witness import DB_NAME, VKEY_NAME, Witness
from cli.demo.build import SAMPLE
from cli.identity import identity
from comity.errors import ComityError
from identity import keys
from identity.authority import Authority
from identity.directory import Directory

A, B, C = "port-alder-1", "sequoia-1", "brazos-bend-1"  # the witnesses that the sample names
AGENCIES = {A: "us-ca-port-alder-pd", B: "us-ca-sequoia-so", C: "us-tx-brazos-bend-pd"}
BROKER = "broker/broker-1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Witnesses' keys as `init` makes them, log keys, and the federation's authority."""
    names = {n: witness_name(a, n) for n, a in AGENCIES.items()}
    names[BROKER] = witness_name("pacific-exchange", "broker-1")
    for who, name in names.items():
        (tmp_path / who).mkdir(parents=True)
        Witness.create(tmp_path / who, name)
    for origin in ("pacific-exchange/broker/broker-1", *(f"{a}/node/{n}" for n, a in AGENCIES.items())):
        key = VerifierKey.of(origin, keys.new_log_key().public_key())
        (tmp_path / f"{origin.rpartition('/')[2]}.vkey").write_text(f"{key}\n")
    Authority.create(tmp_path / "top", "pacific-exchange", at=dt.datetime.now(dt.UTC))
    return tmp_path


def signed(folder: Path, *witnesses: str) -> Result:
    """What the command says, with those values of --witness."""
    common = ["directory", "--authority", folder / "top", "--tables", SAMPLE, "--version", 1, "--out", folder / "d"]
    logs = [x for path in sorted(folder.glob("*.vkey")) for x in ("--log", path)]
    chosen = [x for w in witnesses for x in ("--witness", w)]
    return CliRunner().invoke(identity, list(map(str, [*common, *logs, *chosen])))


def pinned(folder: Path, *who: str) -> list[str]:
    return [f"{w}={folder / w / VKEY_NAME}" for w in who]


def test_the_keys_that_init_made_are_pinned_and_everybody_s_witnesses_follow_from_them(folder: Path) -> None:
    done = signed(folder, *pinned(folder, A, B, C, BROKER))
    assert done.exit_code == 0, done.output
    d = Directory.parse((folder / "d").read_bytes(), Authority.load(folder / "top").certificate)
    found = {n: str(k) for n, k in witnesses_of_brokers(d).items()}
    assert found == {n: (folder / n / VKEY_NAME).read_text().strip() for n in (A, B, C)}
    others = other_witnesses(d)
    assert set(others) == {A, B, C}
    for node, other in others.items():
        assert other != node
        assert set(witnesses_of_node(d, node)) == {BROKER, other}


REFUSED: dict[str, tuple[list[str], str]] = {
    "one witness's key for two": ([f"{A}={{0}}/{A}/{VKEY_NAME}", f"{B}={{0}}/{A}/{VKEY_NAME}"], "SHARED"),
    "a key of who is not registered": ([f"nobody-1={{0}}/{A}/{VKEY_NAME}"], "UNREGISTERED"),
    "a broker that has no log here": ([f"broker/other={{0}}/{A}/{VKEY_NAME}"], "UNREGISTERED"),
    "a log's key": ([f"{A}={{0}}/{A}.vkey"], "BAD_VKEY"),
    "a file that is no key": ([f"{A}={{0}}/{A}/{DB_NAME}"], "FILE_TOO_LARGE"),
    "a file that is not there": ([f"{A}={{0}}/nothing"], "FILE_UNREADABLE"),
}


@pytest.mark.parametrize(("witnesses", "reason"), REFUSED.values(), ids=REFUSED)
def test_the_command_refuses_for_a_witness(witnesses: list[str], reason: str, folder: Path) -> None:
    done = signed(folder, *(w.format(folder) for w in witnesses))
    assert isinstance(done.exception, ComityError), done.output
    assert reason in done.exception.reason
    assert not (folder / "d").exists()


@pytest.mark.parametrize("value", ["port-alder-1", "=file", "port-alder-1="])
def test_a_witness_is_named_with_its_file(value: str, folder: Path) -> None:
    assert signed(folder, value).exit_code == 2
