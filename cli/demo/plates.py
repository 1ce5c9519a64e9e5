"""Invented plates in the states' own formats, and how cameras misread them."""

from __future__ import annotations

import random

from comity.plate import MAX_PLATE_CHARACTERS

# `d` a digit, `L` a letter, anything else itself: the current passenger series.
FORMATS = {
    "CA": "9LLLddd",
    "TX": "LLLdddd",
    "IL": "LLddddd",
    "NH": "ddddddd",
    "VA": "LLLdddd",
    "NV": "dddLdd",
    "AZ": "LLLdLd",
    "OR": "dddLLL",
    "WA": "LLLdddd",
    "LA": "dddLLL",
    "OK": "LLLddd",
    "WI": "LLLdddd",
    "IN": "dddLLL",
    "MA": "dLLddd",
    "ME": "ddddLL",
    "VT": "LLLddd",
    "NC": "LLLdddd",
    "MD": "dLLdddd",
}
_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"  # states leave out I, O and Q, which look like digits
# What readers take for what, the more frequent ones more than once.
_TAKEN_FOR = {
    "0": "OODQ",
    "1": "ILIT",
    "2": "ZZ7",
    "3": "EJ7",
    "4": "A",
    "5": "SS68",
    "6": "G",
    "7": "ZJ3",
    "8": "BB5",
    "A": "4",
    "B": "88",
    "D": "00Q",
    "E": "3",
    "G": "6",
    "H": "MN",
    "I": "11L",
    "J": "3",
    "L": "1",
    "M": "NH",
    "N": "MH",
    "O": "00D",
    "Q": "00",
    "S": "55",
    "T": "1",
    "V": "W",
    "W": "V",
    "Z": "22",
}
DELETED, INSERTED = 0.10, 0.04  # of the misreads; the rest are one character taken for another


def invent(rng: random.Random, state: str) -> str:
    """A number as `state` issues them; of a state not in FORMATS, three letters and four digits."""
    out = []
    for kind in FORMATS.get(state, "LLLdddd"):
        if kind == "d":
            out.append(rng.choice("0123456789"))
        elif kind == "9":
            out.append(rng.choice("6789"))
        else:
            out.append(rng.choice(_LETTERS))
    return "".join(out)


def misread(rng: random.Random, number: str) -> str:
    """`number` as a reader gets it wrong: one look-alike, or one character lost or too many."""
    kind = rng.random()
    if kind < DELETED and len(number) > 2:
        i = rng.randrange(len(number))
        return number[:i] + number[i + 1 :]
    if kind < DELETED + INSERTED and len(number) < MAX_PLATE_CHARACTERS:
        i = rng.randrange(len(number) + 1)
        return number[:i] + rng.choice("1I") + number[i:]
    places = [i for i, character in enumerate(number) if character in _TAKEN_FOR]
    if not places:
        return number[1:] or number
    i = rng.choice(places)
    return number[:i] + rng.choice(_TAKEN_FOR[number[i]]) + number[i + 1 :]
