"""The export: every entry, counted, each proven by itself from the file alone."""

from __future__ import annotations

import base64
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from audit.note import VerifierKey, verify_checkpoint
from audit.proof import verify_inclusion
from audit.tree import leaf_hash
from cli.audit import audit
from comity.errors import ComityError, LogFault
from tests.golden.audit.samples import DRAFTS
from tests.unit.audit.sample import START, build, search, tamper, unsigned

SEARCH = unsigned()


@pytest.fixture
async def log(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    await build(tmp_path / "log", [[START] * 300, *search(SEARCH), [DRAFTS["purge"]]])
    return tmp_path / "log"


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "220"}).invoke(audit, ["export", *map(str, arguments)])


def lines_of(out: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    header, *lines = [json.loads(line) for line in out.read_text().splitlines()]
    return header, lines


def test_every_entry_is_there_with_its_proof_under_the_header_s_checkpoint(log: Path, tmp_path: Path) -> None:
    assert run(log, "--out", tmp_path / "x.jsonl", "--proofs").exit_code == 0
    header, lines = lines_of(tmp_path / "x.jsonl")
    head = verify_checkpoint(header["checkpoint"].encode(), VerifierKey.parse((log / "log.vkey").read_text()))
    assert (header["size"], header["root"]) == (head.size, head.root.hex())
    assert header["counts"] == {"decision": 2, "inquiry": 1, "outcome": 2, "purge": 1, "start": 300}
    assert [line["index"] for line in lines] == list(range(head.size))
    for line in lines:
        leaf = leaf_hash(orjson.dumps(line["entry"], option=orjson.OPT_SORT_KEYS))
        assert leaf.hex() == line["leaf_hash"]
        verify_inclusion(line["index"], head.size, leaf, [base64.b64decode(h) for h in line["proof"]], head.root)


def test_without_proofs_there_are_none_and_the_file_is_the_owner_s(log: Path, tmp_path: Path) -> None:
    result = run(log, "--out", tmp_path / "x.jsonl", "--json")
    assert json.loads(result.output)["counts"]["start"] == 300
    _, lines = lines_of(tmp_path / "x.jsonl")
    assert all(set(line) == {"index", "leaf_hash", "entry"} for line in lines)
    assert (tmp_path / "x.jsonl").stat().st_mode & 0o777 == 0o600


async def test_an_empty_log_is_a_header(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    await build(tmp_path / "log", [])
    assert "none." in run(tmp_path / "log", "--out", tmp_path / "x.jsonl", "--proofs").output
    assert lines_of(tmp_path / "x.jsonl")[1] == []


@pytest.mark.parametrize(
    ("statement", "reason", "index"),
    [
        ("UPDATE leaf SET entry = x'7b7d' WHERE idx = 7", "WRONG_HASH", 7),
        ("UPDATE leaf SET entry = (SELECT entry FROM leaf WHERE idx = 300) WHERE idx = 7", "WRONG_HASH", 7),
        (
            "UPDATE leaf SET (hash, entry) = (SELECT hash, entry FROM leaf WHERE idx = 300) WHERE idx = 7",
            "WRONG_ROOT",
            -1,
        ),
        ("DELETE FROM leaf WHERE idx = 305", "MISSING", 305),
    ],
    ids=["rubbish", "another entry", "another entry with its hash", "the last gone"],
)
def test_a_log_that_is_not_what_it_signed_is_not_exported(
    log: Path, tmp_path: Path, statement: str, reason: str, index: int
) -> None:
    tamper(log, statement)
    result = run(log, "--out", tmp_path / "x.jsonl")
    assert isinstance(result.exception, LogFault)
    assert (result.exception.reason, result.exception.index) == (reason, index)
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


def test_a_file_that_is_there_is_not_written_over(log: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("mine")
    result = run(log, "--out", tmp_path / "x.jsonl")
    assert isinstance(result.exception, ComityError)
    assert result.exception.reason == "FILE_EXISTS"
    assert (tmp_path / "x.jsonl").read_text() == "mine"


def test_parquet_without_its_library_is_refused(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run(log, "--out", tmp_path / "x.parquet", "--proofs")
    assert isinstance(result.exception, ComityError)
    assert result.exception.reason == "NOT_YET"
    assert not (tmp_path / "x.parquet").exists()


def test_parquet_holds_every_entry(log: Path, tmp_path: Path) -> None:
    run(log, "--out", tmp_path / "x.parquet", "--proofs")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table.num_rows == 306
    assert table.column("type").to_pylist().count("start") == 300
    assert json.loads(table.schema.metadata[b"comity"])["size"] == 306
