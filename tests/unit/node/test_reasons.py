"""Whoever runs the node is told in words why records were set aside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from node import formats
from node.reasons import WORDS, in_words, surface_lines

OF_FILES = {
    "CANNOT_READ",
    "NO_PARQUET",
    "UNKNOWN_FORMAT",
    "FILE_TOO_LARGE",
}  # of a whole file: the command says them in full


def test_every_reason_that_a_format_names_has_words() -> None:
    named: set[str] = set()
    for path in Path(formats.__file__).parent.glob("*.py"):
        named |= set(re.findall(r'(?:BadField\(|reason=|, )"([A-Z][A-Z0-9_]+)"', path.read_text(encoding="utf-8")))
    assert {"BAD_TIME", "NOT_JSON", "TIME_IN_FUTURE", "BAD_XML"} <= named, "the search finds what there is"
    assert named - OF_FILES <= set(WORDS)


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        pytest.param({}, "", id="none"),
        pytest.param({"NO_PLATE": 2}, "2 NO_PLATE: the plate is missing", id="one"),
        pytest.param(
            {"A_NEW_ONE": 1, "NO_PLATE": 2}, "2 NO_PLATE: the plate is missing; 1 A_NEW_ONE", id="one without words"
        ),
    ],
)
def test_reasons_are_told_in_words_the_most_frequent_first(reasons: dict[str, int], said: str) -> None:
    assert in_words(reasons) == said


def test_a_surface_s_counts_are_told_apart_from_why_records_and_requests_were_refused() -> None:
    counts = {"accepted": 5, "rejected": 2, "reason:NO_PLATE": 2, "refused:BAD_TOKEN": 1, "reason:TORN": 0}
    assert surface_lines("webhook", counts) == [
        "  by webhook: 5 accepted, 2 rejected",
        "    rejected: 2 NO_PLATE: the plate is missing",
        "    requests refused: 1 BAD_TOKEN",
    ]
