"""A plate number, the state that issued it, and the skeleton that cameras' misreadings share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from comity.errors import InvalidInput, Violation

MAX_PLATE_CHARACTERS = 10  # Source: Nlets LPQ, field LIC
_PLATE = re.compile(r"[A-Z0-9]{1,10}\Z")
_STATE = re.compile(r"[A-Z]{2}\Z")
_PUNCTUATION = str.maketrans("", "", " -.·")
# What character recognition cannot tell apart is one character in a skeleton.
_FOLD = str.maketrans("OQDILBSZ", "00011852")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plate:
    """A number of 1 to 10 of A-Z and 0-9, and the issuing state: two capital letters, or empty if not read."""

    number: str
    state: str

    @classmethod
    def parse(cls, number: str, state: str, *, state_required: bool = True) -> Plate:
        """The plate as a person or a camera writes it: small letters, blanks, hyphens and dots are understood.

        Characters that only look like Latin letters are refused, never replaced.

        Raises:
            InvalidInput: not a plate; the message names the field and does not repeat the value.
        """
        bad: list[Violation] = []
        # The length is checked first, so that a value of megabytes costs nothing.
        text = number.translate(_PUNCTUATION).upper() if len(number) <= 32 and number.isascii() else ""
        if not _PLATE.match(text):
            bad.append(Violation("plate", f"must be 1 to {MAX_PLATE_CHARACTERS} of A-Z and 0-9"))
        code = state.strip().upper() if len(state) <= 8 and state.isascii() else "?"
        if not _STATE.match(code) and (code or state_required):
            bad.append(Violation("state", "must be the two letters of the issuing state"))
        if bad:
            raise InvalidInput("not a plate", violations=bad, reason="BAD_PLATE")
        return cls(number=text, state=code)

    @property
    def skeleton(self) -> str:
        """The number with O Q D as 0, I L as 1, B as 8, S as 5 and Z as 2."""
        return skeleton(self.number)


def skeleton(number: str) -> str:
    """`number` (A-Z, 0-9) with every group of look-alikes folded to one digit; idempotent."""
    return number.translate(_FOLD)
