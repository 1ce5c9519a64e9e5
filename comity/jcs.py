"""Canonical JSON: RFC 8785 in the restricted profile of the decision log."""

from __future__ import annotations

from typing import Any

import orjson

MAX_INTEGER = 2**53 - 1


def encode(value: Any) -> bytes:
    """The canonical bytes of `value`: ASCII keys, no floats, integers below 2^53.

    Source: RFC 8785 section 3.2; with ASCII keys, byte order is its UTF-16 order.

    Raises:
        TypeError: outside the profile.
    """
    check(value)
    return write(value)


def write(value: Any) -> bytes:
    """As `encode`, of a value that was made or checked to be inside the profile before.

    Raises:
        TypeError: text that is not Unicode.
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def check(value: Any) -> None:
    """Return if `value` is inside the profile.

    Raises:
        TypeError: a float, a large integer, a key that is not ASCII text, or a type JSON does not have.
    """
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return
    if kind is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise TypeError("integer of 2^53 or more")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                raise TypeError("key is not ASCII text")
            check(item)
    elif kind is list or kind is tuple:
        for item in value:
            check(item)
    else:
        raise TypeError(f"{kind.__name__} is not in the profile")
