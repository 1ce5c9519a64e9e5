"""Decision tables through the command that authors use."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from cli.__main__ import cli
from policies.packs import pack_text
from policies.setting import SAMPLE

DECISIONS = (SAMPLE / "decisions.csv").read_text(encoding="utf-8")
MORE = (SAMPLE / "more.csv").read_text(encoding="utf-8")
HEADER = DECISIONS.splitlines()[0]
GOOD = "a row that holds,us-ca-chp,investigator,self,stolen-vehicle,criminal,C-1,,,exact,sequoia-1,30,permit,,"


def run(path: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["policy", "test", str(path), *options])


def run_text(tmp_path: Path, text: str, *options: str) -> Result:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    return run(path, *options)


def rows(text: str) -> list[str]:
    return [row["case"] for row in csv.DictReader(text.splitlines())]


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, object]]:
    out: dict[str, dict[str, object]] = {}
    for name in ("decisions.csv", "more.csv"):
        for line in run(SAMPLE / name, "--json").stdout.splitlines():
            row = json.loads(line)
            out[row["case"]] = row
    return out


@pytest.mark.parametrize("case", rows(DECISIONS) + rows(MORE))
def test_every_row_of_the_shipped_tables_holds(case: str, results: dict[str, dict[str, object]]) -> None:
    assert results[case]["failures"] == []


def test_a_table_that_holds_exits_0_and_says_how_many_rows() -> None:
    result = run(SAMPLE / "decisions.csv")
    assert (result.exit_code, result.stdout) == (0, "decisions.csv: 30 of 30 rows hold\n")


def test_a_row_that_fails_exits_1_and_is_shown_with_the_reason(tmp_path: Path) -> None:
    result = run_text(
        tmp_path, f"{HEADER}\n{GOOD.replace(',permit,', ',deny,').replace('row that', 'lie that')}\n{GOOD}\n"
    )
    assert result.exit_code == 1
    assert "line 2: a lie that holds" in result.stdout
    assert "expected deny, got permit: permitted under FED-7 and CA-10" in result.stdout


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        pytest.param("permit,SC-1,", "expected SC-1 among", id="a rule that did not match fails the row"),
        pytest.param("permit,,window_days<=29", "at most 29 days", id="a wider window fails the row"),
        pytest.param("permit,,redact=hit-only", "redaction hit-only", id="another redaction fails the row"),
    ],
)
def test_rule_and_obligations_are_compared(tmp_path: Path, tail: str, said: str) -> None:
    result = run_text(tmp_path, f"{HEADER}\n{GOOD.removesuffix('permit,,')}{tail}\n")
    assert result.exit_code == 1
    assert said in result.stdout


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="an empty file"),
        pytest.param(HEADER.replace("purpose", "porpoise") + "\n" + GOOD, id="a misspelt column"),
        pytest.param(HEADER.replace(",rule", "") + "\n" + GOOD, id="a missing column"),
        pytest.param(HEADER + ",at,at\n" + GOOD + ",,", id="a column that stands twice"),
        pytest.param(f"{HEADER}\n{GOOD.replace(',permit,', ',maybe,')}", id="an unknown expectation"),
        pytest.param(f"{HEADER}\n{GOOD.replace(',permit,', ',,')}", id="no expectation"),
        pytest.param(f"{HEADER}\n{GOOD.replace(',permit,', ',Permit,')}", id="an expectation in capitals"),
        pytest.param(f"{HEADER}\n{GOOD[:-1]}sc 1,", id="a rule that is no id"),
        pytest.param(f"{HEADER}\n{GOOD}window_days<30", id="an obligation of another form"),
        pytest.param(f"{HEADER}\n{GOOD}redact=most", id="an unknown redaction"),
        pytest.param(f"{HEADER}\n{GOOD}window_days<=1;", id="an empty obligation"),
        pytest.param(f"{HEADER}\n{GOOD},", id="a cell too many"),
        pytest.param(f"{HEADER}\n{GOOD[:-1]}", id="a cell too few"),
        pytest.param(f'{HEADER}\n"{GOOD}', id="a quote that never closes"),
    ],
)
def test_a_table_that_is_itself_wrong_exits_2(tmp_path: Path, text: str) -> None:
    result = run_text(tmp_path, text + "\n")
    assert result.exit_code == 2
    assert "BAD_TABLE" in result.stderr


def test_bytes_that_are_no_text_make_a_request_that_is_denied(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(
        f"{HEADER}\n{GOOD}\n".replace("us-ca-chp", "us-ca-\xff").replace(",permit,", ",deny,").encode("latin-1")
    )
    assert run(path).exit_code == 0


def test_control_characters_of_a_case_do_not_reach_the_terminal(tmp_path: Path) -> None:
    bad = GOOD.replace("a row", "\x1b[31ma row").replace(",permit,", ",deny,")
    assert "\x1b" not in run_text(tmp_path, f"{HEADER}\n{bad}\n").stdout


def test_a_folder_brings_its_own_directory_and_packs(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    directory = (SAMPLE / "directory.toml").read_text(encoding="utf-8")
    (tmp_path / "directory.toml").write_text(directory.replace('"us-tx-open"]', '"closed"]', 1), encoding="utf-8")
    closed = (
        pack_text("us-tx-open").replace("us-tx-open", "closed").replace("police,searcher", "us-tx-llano-pd,searcher")
    )
    path = tmp_path / "packs" / "closed.csv"
    path.write_text(closed, encoding="utf-8")
    row = GOOD.replace("us-ca-chp", "us-tx-brazos-bend-pd").replace("sequoia-1", "brazos-bend-1")
    unsealed = run_text(tmp_path, f"{HEADER}\n{row}\n", "--federation", str(tmp_path))
    assert unsealed.exit_code == 1
    assert "changed after it was sealed" in str(unsealed.exception)
    assert CliRunner().invoke(cli, ["policy", "seal", str(path)]).exit_code == 0
    sealed = run_text(tmp_path, f"{HEADER}\n{row}\n", "--federation", str(tmp_path))
    assert "no rule of the node's policy allows us-tx-brazos-bend-pd" in sealed.stdout
    assert run_text(tmp_path, f"{HEADER}\n{row}\n").exit_code == 0


def test_json_says_of_each_row_what_came_out(tmp_path: Path) -> None:
    (line,) = run_text(tmp_path, f"{HEADER}\n{GOOD}\n", "--json").stdout.splitlines()
    row = orjson.loads(line)
    assert (row["ok"], row["got"], row["rules"], row["window_days"]) == (True, "permit", ["FED-7", "CA-10"], 30)
