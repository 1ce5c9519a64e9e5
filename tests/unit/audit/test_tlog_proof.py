"""One decision in three small files: proven offline to whoever has the key, and refused when any of them is altered."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from audit.log import DecisionLog
from audit.note import MAX_NOTE_BYTES, Checkpoint, VerifierKey
from audit.tiles import publish
from audit.tlog_proof import TlogProof, check
from audit.tree import leaf_hash
from cli.audit import audit
from cli.compose import SignedInquiry, write_draft
from comity.commitment import CASE_NUMBER, QUERY
from comity.errors import ComityError, InvalidInput, LogFault
from comity.inquiry import Disclosure
from identity import certificates
from identity.directory import LogKey
from identity.keys import load_log_key
from tests.golden.audit.samples import KEY
from tests.unit.audit.sample import ORIGIN, START, HandClock, asked, build, search
from tests.unit.identity.world import World

PLATE, CASE = b"7ZZZ999", b"PA-26-0101"
DISCLOSURES = (
    Disclosure(label=QUERY, salt=b"q" * 32, value=PLATE),
    Disclosure(label=CASE_NUMBER, salt=b"c" * 32, value=CASE),
)
NAMES = ("leaf", "decision.tlog-proof", "disclosures.json")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture
async def proven(world: World, tmp_path: Path) -> tuple[Path, str, Path]:
    """A log of 1,000 and some entries with one search in it, the search's id, and its draft."""
    query, case = (d.commitment for d in DISCLOSURES)
    inquiry, draft, envelope = asked(world.person(), query_commitment=query, case_number_commitment=case)
    (tmp_path / "log").mkdir()
    await build(tmp_path / "log", [[START] * 700, *search(draft), [START] * 400])
    write_draft(tmp_path / "draft.json", SignedInquiry(envelope=envelope, disclosures=DISCLOSURES))
    return tmp_path / "log", inquiry.inquiry_id, tmp_path / "draft.json"


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "220"}).invoke(audit, ["prove", *map(str, arguments)])


def test_a_node_that_was_not_decided_for_is_told_with_those_that_were(
    proven: tuple[Path, str, Path], tmp_path: Path
) -> None:
    log, inquiry_id, _ = proven
    error = run(log, inquiry_id, "--node", "alder", "--out", tmp_path / "p").exception
    assert getattr(error, "reason", "") == "NO_ENTRY"
    assert "on this node; it has those on alder-1" in str(error)


def made(proven: tuple[Path, str, Path], out: Path, *options: object) -> Path:
    log, inquiry_id, _ = proven
    result = run(log, inquiry_id, "--node", "alder-1", "--out", out, *options)
    assert result.exit_code == 0, result.output
    return out


def reason_of(result: Result) -> str:
    assert isinstance(result.exception, ComityError), result.output
    return result.exception.reason


def test_a_decision_is_proven_in_about_1500_bytes_without_any_other(
    proven: tuple[Path, str, Path], tmp_path: Path
) -> None:
    out = made(proven, tmp_path / "proof")
    assert {p.name for p in out.iterdir()} == set(NAMES)
    assert sum(p.stat().st_size for p in out.iterdir()) < 2_000
    result = run("--check", out, "--vkey", proven[0] / "log.vkey", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.output)
    assert (said["index"], said["entry"]["node"], said["entry"]["effect"]) == (701, "alder-1", "permit")
    assert (said["head"]["origin"], said["head"]["size"], said["disclosed"]) == (ORIGIN, 1_105, {})
    assert "Nothing is disclosed" in json.loads((out / "disclosures.json").read_text())["note"]


def test_the_proof_file_is_in_the_published_form(proven: tuple[Path, str, Path], tmp_path: Path) -> None:
    text = (made(proven, tmp_path / "proof") / "decision.tlog-proof").read_text()
    lines = text.split("\n")
    blank = lines.index("")
    assert (lines[0], lines[1]) == ("c2sp.org/tlog-proof@v1", "index 701")
    assert all(len(base64.b64decode(h)) == 32 for h in lines[2:blank])
    assert (blank - 2, lines[blank + 1 : blank + 3]) == (11, [ORIGIN, "1105"])


def test_what_the_draft_discloses_is_shown_and_bound_to_the_decision(
    proven: tuple[Path, str, Path], tmp_path: Path
) -> None:
    out = made(proven, tmp_path / "proof", "--disclosures", proven[2])
    result = run("--check", out, "--vkey", proven[0] / "log.vkey")
    assert result.exit_code == 0
    for words in ("Proven: entry 701", "permit at alder-1", "disclosed query: 7ZZZ999", "person/t-reyes"):
        assert words in result.output


def test_one_field_can_be_disclosed_without_the_others(proven: tuple[Path, str, Path], tmp_path: Path) -> None:
    out = made(proven, tmp_path / "proof", "--disclosures", proven[2], "--field", "case_number")
    assert [d["name"] for d in json.loads((out / "disclosures.json").read_text())["disclosures"]] == ["case_number"]
    everything = b"".join(p.read_bytes() for p in out.iterdir())
    assert PLATE not in everything
    assert base64.b64encode(PLATE) not in everything


def test_a_proof_out_of_tiles_is_the_same(proven: tuple[Path, str, Path], tmp_path: Path) -> None:
    publish(proven[0], tmp_path / "tiles")
    alone, tiled = made(proven, tmp_path / "a"), made(proven, tmp_path / "b", "--tiles", tmp_path / "tiles")
    assert [(alone / n).read_bytes() for n in NAMES] == [(tiled / n).read_bytes() for n in NAMES]


async def test_tiles_that_do_not_reach_the_decision_make_no_proof(
    proven: tuple[Path, str, Path], tmp_path: Path, world: World
) -> None:
    log, tiles = tmp_path / "log", tmp_path / "tiles"
    publish(log, tiles)
    inquiry, draft, _ = asked(world.person())
    with DecisionLog.open(log, clock=HandClock()) as later:
        await later.append(search(draft)[0])
    result = run(log, inquiry.inquiry_id, "--node", "alder-1", "--out", tmp_path / "proof", "--tiles", tiles)
    assert reason_of(result) == "BAD_RANGE"


def test_a_directory_pins_the_key(proven: tuple[Path, str, Path], tmp_path: Path, world: World) -> None:
    out = made(proven, tmp_path / "proof")
    known = LogKey(origin=ORIGIN, key=load_log_key(proven[0] / "log.key").public_key(), program="broker", id="b1")
    (tmp_path / "federation-ca.pem").write_bytes(certificates.pem(world.federation.certificate))
    for logs, code in (([known], 0), ([], 1)):
        (tmp_path / "directory.json").write_bytes(world.signed_directory(logs=logs))
        result = run("--check", out, "--directory", tmp_path / "directory.json")
        assert result.exit_code == code
    assert reason_of(result) == "UNKNOWN_LOG"


def test_every_byte_of_leaf_and_proof_counts(proven: tuple[Path, str, Path], tmp_path: Path) -> None:
    out = made(proven, tmp_path / "proof", "--disclosures", proven[2])
    key = VerifierKey.parse((proven[0] / "log.vkey").read_text())
    leaf, proof, shown = ((out / n).read_bytes() for n in NAMES)
    assert check(leaf, TlogProof.parse(proof), shown, key).index == 701
    for at in range(0, len(leaf), 7):
        with pytest.raises(LogFault):
            check(_flipped(leaf, at), TlogProof.parse(proof), shown, key)
    for at in range(len(proof)):
        with pytest.raises(LogFault):
            check(leaf, TlogProof.parse(_flipped(proof, at)), shown, key)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def altered_disclosures(document: dict[str, Any]) -> list[tuple[str, dict[str, Any], str]]:
    first = document["disclosures"][0]
    other = base64.b64encode(b"7ZZZ998").decode()
    return [
        ("another value", document | {"disclosures": [first | {"value": other}]}, "DISCLOSURE_MISMATCH"),
        ("another name", document | {"disclosures": [first | {"name": "case_number"}]}, "DISCLOSURE_MISMATCH"),
        ("an unknown name", document | {"disclosures": [first | {"name": "plate"}]}, "DISCLOSURE_MISMATCH"),
        ("a salt too short", document | {"disclosures": [first | {"salt": "AAAA"}]}, "DISCLOSURE_MISMATCH"),
        ("one twice", document | {"disclosures": [first, first]}, "BAD_DISCLOSURES"),
        ("no inquiry", {k: v for k, v in document.items() if k != "inquiry"}, "BAD_DISCLOSURES"),
        ("another inquiry", document | {"inquiry": other}, "OTHER_INQUIRY"),
        ("another format", document | {"format": "x"}, "BAD_DISCLOSURES"),
        ("something more", document | {"more": 1}, "BAD_DISCLOSURES"),
        ("no list", document | {"disclosures": 5}, "BAD_DISCLOSURES"),
        ("a name of lists", document | {"disclosures": [first | {"name": []}]}, "BAD_DISCLOSURES"),
    ]


def test_altered_disclosures_are_refused_and_show_no_value(proven: tuple[Path, str, Path], tmp_path: Path) -> None:
    out = made(proven, tmp_path / "proof", "--disclosures", proven[2])
    key = VerifierKey.parse((proven[0] / "log.vkey").read_text())
    leaf, proof, shown = ((out / n).read_bytes() for n in NAMES)
    for what, document, reason in altered_disclosures(json.loads(shown)):
        with pytest.raises(InvalidInput) as refused:
            check(leaf, TlogProof.parse(proof), json.dumps(document).encode(), key)
        assert refused.value.reason == reason, what
        assert "7ZZZ" not in str(refused.value)


def test_an_entry_that_is_no_decision_proves_nothing(tmp_path: Path) -> None:
    leaf = b'{"v":1}'
    note = Checkpoint(origin=ORIGIN, size=1, root=leaf_hash(leaf)).sign(KEY)
    with pytest.raises(LogFault) as refused:
        check(leaf, TlogProof(index=0, hashes=(), checkpoint=note), b"{}", VerifierKey.of(ORIGIN, KEY.public_key()))
    assert refused.value.reason == "BAD_FORM"


NOTE = Checkpoint(origin=ORIGIN, size=2, root=b"r" * 32).sign(KEY)
HASH = base64.b64encode(b"h" * 32).decode()
MALFORMED = {
    "empty": b"",
    "another version": b"c2sp.org/tlog-proof@v2\nindex 0\n\n" + NOTE,
    "no index": b"c2sp.org/tlog-proof@v1\n\n" + NOTE,
    "an index with a zero before it": b"c2sp.org/tlog-proof@v1\nindex 01\n\n" + NOTE,
    "a negative index": b"c2sp.org/tlog-proof@v1\nindex -1\n\n" + NOTE,
    "a short hash": b"c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\n" + NOTE,
    "no blank line": b"c2sp.org/tlog-proof@v1\nindex 0\n" + NOTE.replace(b"\n\n", b"\n"),
    "too many hashes": b"c2sp.org/tlog-proof@v1\nindex 0\n" + f"{HASH}\n".encode() * 54 + b"\n" + NOTE,
    "too large": b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + NOTE + b"x" * (MAX_NOTE_BYTES + 9_000),
    "extra data that is none": b"c2sp.org/tlog-proof@v1\nextra !\nindex 0\n\n" + NOTE,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_proof_file_is_refused(data: bytes) -> None:
    with pytest.raises(LogFault) as refused:
        TlogProof.parse(data)
    assert refused.value.reason == "BAD_PROOF"


def test_extra_data_is_let_be() -> None:
    data = f"c2sp.org/tlog-proof@v1\nextra AAAA\nindex 1\n{HASH}\n\n".encode() + NOTE
    assert TlogProof.parse(data) == TlogProof(index=1, hashes=(b"h" * 32,), checkpoint=NOTE)


@given(st.integers(0, 2**53 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=53))
def test_a_proof_survives_its_file(index: int, hashes: list[bytes]) -> None:
    proof = TlogProof(index=index, hashes=tuple(hashes), checkpoint=NOTE)
    assert TlogProof.parse(proof.encode()) == proof


@given(st.binary(max_size=300))
def test_whatever_bytes_come_as_a_proof_are_refused(data: bytes) -> None:
    with pytest.raises(LogFault):
        TlogProof.parse(b"c2sp.org/tlog-proof@v1\n" + data).verify(b"", VerifierKey.of(ORIGIN, KEY.public_key()))


def test_what_is_not_recorded_cannot_be_proven(proven: tuple[Path, str, Path], tmp_path: Path) -> None:
    log, inquiry_id, _ = proven
    other = inquiry_id[:-1] + ("0" if inquiry_id[-1] != "0" else "1")
    for inquiry, node in ((other, "alder-1"), (inquiry_id, "nobody-1")):
        result = run(log, inquiry, "--node", node, "--out", tmp_path / "proof")
        assert reason_of(result) == "NO_ENTRY"
    assert not (tmp_path / "proof").exists()


def test_files_that_are_there_are_not_written_over(proven: tuple[Path, str, Path], tmp_path: Path) -> None:
    made(proven, tmp_path / "proof")
    result = run(proven[0], proven[1], "--node", "alder-1", "--out", tmp_path / "proof")
    assert reason_of(result) == "FILE_EXISTS"


def test_a_draft_of_another_inquiry_is_refused(proven: tuple[Path, str, Path], tmp_path: Path, world: World) -> None:
    _, _, envelope = asked(world.person())
    write_draft(tmp_path / "other.json", SignedInquiry(envelope=envelope, disclosures=DISCLOSURES))
    options = ("--node", "alder-1", "--out", tmp_path / "proof", "--disclosures", tmp_path / "other.json")
    assert reason_of(run(proven[0], proven[1], *options)) == "OTHER_INQUIRY"


@pytest.mark.parametrize(
    "arguments",
    [[], ["log"], ["log", "x", "--node", "n", "--out", "o"], ["--check", "d"], ["log", "--check", "d", "--vkey", "k"]],
    ids=["nothing", "a log alone", "no inquiry's id", "no key", "a log to check"],
)
def test_wrong_usage_is_said_to_be_so(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k").write_text("x")
    assert run(*arguments).exit_code == 2
