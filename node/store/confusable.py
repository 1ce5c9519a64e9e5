"""The skeletons that a camera may read instead of a plate's own."""

from __future__ import annotations

from comity.plate import MAX_PLATE_CHARACTERS, skeleton

# What the skeleton does not fold already; both ways. Folding these too would make most plates alike.
_PAIRS = ("1T", "1J", "27", "3E", "3J", "37", "4A", "56", "58", "6G", "7J", "MN", "MH", "NH", "VW")
ALPHABET = "".join(sorted(set(skeleton("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"))))


def _partners() -> dict[str, str]:
    out: dict[str, str] = {}
    for pair in _PAIRS:
        a, b = pair[0], pair[1]
        out[a] = out.get(a, "") + b
        out[b] = out.get(b, "") + a
    return out


_PARTNERS = _partners()


def confusable_skeletons(number: str) -> list[str]:
    """The skeleton of `number` and every one that is one further pair, one deletion or one insertion away.

    Sorted, without repeats, about 230 for a plate of seven characters.
    """
    own = skeleton(number)
    out = {own}
    for i, character in enumerate(own):
        head, tail = own[:i], own[i + 1 :]
        out.add(head + tail)
        out.update([head + other + tail for other in _PARTNERS.get(character, "")])
    if len(own) < MAX_PLATE_CHARACTERS:
        for i in range(len(own) + 1):
            head, tail = own[:i], own[i:]
            out.update([head + extra + tail for extra in ALPHABET])
    out.discard("")
    return sorted(out)
