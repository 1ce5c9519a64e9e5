"""What is wrong with a case number that names no case."""

from __future__ import annotations

import re

_TEXT = (
    "inv invest investigation investigate test testing none na null nil tbd tba unknown unk misc other followup "
    "case casenumber number pending any asap admin police patrol traffic stop suspicious vehicle check info intel "
    "reason search lpr alpr plate query work duty agency assist xx xxx"
)
_WORDS = frozenset(_TEXT.split())
_RUNS = ("01234567890", "09876543210", "abcdefghijklmnopqrstuvwxyz", "qwertyuiop", "asdfghjkl", "zxcvbnm")
_LEAST = 3
_NOT_LETTERS = re.compile(r"[^a-z0-9]+")


def fault(case_number: str) -> str:
    """Why it names no case, in words that do not repeat it; empty if nothing is plainly wrong with it.

    `missing`: there is nothing in it; anything else is `vague`.
    """
    parts = [p for p in _NOT_LETTERS.split(case_number.lower()) if p]
    text = "".join(parts)
    if not text:
        return "missing"
    if len(set(text)) == 1:
        return "one character again and again"
    if text in _WORDS or all(p in _WORDS for p in parts):
        return "a word that names no case"
    if len(text) < _LEAST:
        return "too short to name a case"
    if any(text in run or text in run[::-1] for run in _RUNS):
        return "a run of the keyboard"
    return ""
