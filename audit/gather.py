"""What an index takes down of each entry: which inquiry it belongs to, and the words that filters ask for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from audit.hashes import HashReader
from audit.listing import is_pending
from audit.stretch import entries_of
from audit.tree import Tree
from comity.errors import LogFault

NO_WORDS = ("", "", "", "")
_REMEMBERED = 50_000

Words = tuple[str, str, str, str]  # agency, person, beneficiary, purpose


@dataclass(slots=True)
class Gathered:
    """What a stretch of entries adds. A line: (index, its inquiry's or None, of a search, the words, node, decision).

    `decided` are inquiries that have a decision now, so that they are no line of their own any more.
    """

    lines: dict[int, tuple[int, int | None, bool, Words, str, str]] = field(default_factory=dict)
    rules: list[tuple[str, int]] = field(default_factory=list)
    outcomes: list[tuple[int, str, int]] = field(default_factory=list)
    decided: set[int] = field(default_factory=set)


class Gatherer:
    """Reads a log's entries from one index on, in stretches; remembers the inquiries that it met last."""

    def __init__(self, reader: HashReader) -> None:
        self._reader = reader
        self._asked: OrderedDict[str, tuple[int | None, Words]] = OrderedDict()

    def stretches(self, tree: Tree, size: int, length: int) -> Iterator[Gathered]:
        """What the entries from `tree.size` up to `size` add; `tree` grows with the hash of each.

        Raises:
            LogFault: as `entries_of`; an entry is not in any entry's form (BAD_FORM).
        """
        out = Gathered()
        for index, entry, leaf in entries_of(self._reader, tree.size, size):
            try:
                self._take(index, orjson.loads(entry), out)
            except (ValueError, TypeError, KeyError, IndexError):
                message = f"entry {index} is not in the form of its type: verify the log"
                raise LogFault(message, index=index, reason="BAD_FORM") from None
            tree.append(leaf)
            if tree.size % length == 0 or tree.size == size:
                yield out
                out = Gathered()

    def _take(self, index: int, value: Mapping[str, Any], out: Gathered) -> None:
        match value["type"]:
            case "inquiry":
                words = _words(value)
                self._remember(value["inquiry_id"], index, words)
                out.lines[index] = (index, index, True, words, "", "")
            case "decision":
                inquiry, words = self._of(value["inquiry_id"])
                if inquiry is not None:
                    out.decided.add(inquiry)
                    out.lines.pop(inquiry, None)
                decision = "pending" if is_pending(value) else value["effect"]
                out.lines[index] = (index, inquiry, True, words, value["node"], decision)
                out.rules += [(rule, index) for rule in value["rules"]]
            case "outcome":
                inquiry, _ = self._of(value["inquiry_id"])
                if inquiry is not None:
                    out.outcomes.append((inquiry, value["node"], index))
            case "receipt":
                pass
            case _:
                out.lines[index] = (index, None, False, NO_WORDS, value.get("node", ""), "")

    def _of(self, inquiry_id: str) -> tuple[int | None, Words]:
        known = self._asked.get(inquiry_id)
        if known is None:
            index = self._reader.find_inquiry(inquiry_id)
            value = None if index is None else orjson.loads(self._reader.entry(index))
            if value is None or (value["type"], value["inquiry_id"]) != ("inquiry", inquiry_id):
                return None, NO_WORDS
            known = self._remember(inquiry_id, index, _words(value))
        return known

    def _remember(self, inquiry_id: str, index: int | None, words: Words) -> tuple[int | None, Words]:
        if len(self._asked) >= _REMEMBERED:
            self._asked.popitem(last=False)
        self._asked[inquiry_id] = (index, words)
        return index, words


def _words(value: Mapping[str, Any]) -> Words:
    requester = value["requester"]
    return requester["agency"], requester["person"], value["beneficiary"], value["purpose"]["code"]
