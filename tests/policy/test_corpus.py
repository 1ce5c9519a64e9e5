"""A corpus of malformed lines, each refused with its place and what would be right; and of lines that are valid.

`corpus/COLUMN.csv`: a sentence, the row with characters beyond ASCII escaped, the column that is pointed at (0: the
whole line), and words of the remedy. `corpus/valid.txt`: one row a line.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import pytest

from comity.errors import PolicyError
from policies.load import load
from policies.seal import HEADER
from tests.policy.requests import WORDS

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(CORPUS.glob("*.csv"))
GOOD = "OK-1,any-node,police,any-role,any-purpose,any-act,allow,always,-,an order"
LINE = 3


def cases() -> list[Any]:
    out = []
    for path in FILES:
        with path.open(encoding="ascii", newline="") as f:
            for row in csv.DictReader(f):
                text = row["row"].encode("ascii").decode("unicode_escape")
                out.append(pytest.param(text, int(row["column"]), row["right"], id=f"{path.stem}: {row['case']}"))
    return out


def sealed(row: str) -> str:
    """With a seal that fits, whatever the row holds: it is the row that is to be refused."""
    body = f"{HEADER}\n{GOOD}\n{row}\n"
    rows = sum(1 for x in body.splitlines() if x and not x.startswith("#") and x != HEADER)
    return f"{body}#end rows={rows} sha256={hashlib.sha256(body.encode()).hexdigest()}\n"


def test_the_corpus_has_more_than_two_hundred_malformed_lines_and_none_twice() -> None:
    texts = [c.values[0] for c in cases()]
    assert len(texts) == len(set(texts)) > 200


@pytest.mark.parametrize(("row", "column", "right"), cases())
def test_a_malformed_line_is_refused_with_its_place_and_what_would_be_right(row: str, column: int, right: str) -> None:
    with pytest.raises(PolicyError) as e:
        load(sealed(row), WORDS, "city.csv")
    assert (e.value.file, e.value.line, e.value.column) == ("city.csv", LINE, column)
    assert right in str(e.value)
    assert "right is " in str(e.value) or "did you mean " in str(e.value)
    where = f"city.csv:{LINE}:{column}: " if column else f"city.csv:{LINE}: "
    assert str(e.value).startswith(where)


@pytest.mark.parametrize("row", (CORPUS / "valid.txt").read_text(encoding="ascii").splitlines())
def test_a_valid_line_is_accepted(row: str) -> None:
    rules = load(sealed(row), WORDS, "city.csv")
    assert len(rules) == (1 if row.startswith("#") else 2)
