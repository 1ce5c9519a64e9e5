"""Every single change that the owner of a log's key could make to it, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from comity.inquiry import new_inquiry_id
from tests.unit.audit.exchanges import Book
from tests.unit.identity.world import NOW

Commits = list[list[dict[str, Any]]]
_OTHERS = {
    "effect": ("permit", "deny"),
    "outcome": ("match", "no_match", "timed_out", "refused", "error"),
    "pep": ("broker", "node"),
}
_SET_BY_THE_LOG = ("v", "type", "head", "peers", "at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One change: of which entry (`index`), what, and the commits that result."""

    what: str
    index: int
    commits: Commits


def mutations(book: Book) -> Iterator[Mutation]:
    """Every deletion, edit of one field, insertion, swap of neighbours and back-dating of one entry."""
    index = 0
    for c, values in enumerate(book.commits):
        for i, value in enumerate(values):
            for what, changed in _changes(book.commits, c, i, value):
                yield Mutation(what=f"{what} of {value['type']} {index}", index=index, commits=changed)
            index += 1


def _changes(commits: Commits, c: int, i: int, value: dict[str, Any]) -> Iterator[tuple[str, Commits]]:
    yield "deletion", _with(commits, c, commits[c][:i] + commits[c][i + 1 :])
    for path, edited in _edits(value, ()):
        if path[0] not in _SET_BY_THE_LOG:
            yield f"edit {'.'.join(path)}", _with(commits, c, [*commits[c][:i], edited, *commits[c][i + 1 :]])
    copy = deepcopy(value)
    yield "insertion of a copy", _with(commits, c, [*commits[c][: i + 1], copy, *commits[c][i + 1 :]])
    if "inquiry_id" in value:
        other = deepcopy(value) | {"inquiry_id": new_inquiry_id(NOW)}
        yield "insertion of another", _with(commits, c, [*commits[c][: i + 1], other, *commits[c][i + 1 :]])
    yield from _swaps(commits, c, i)
    before = [v["at"] for values in commits[:c] for v in values]
    if i == 0 and before and before[-1] < value["at"]:
        yield "back-dating", _with(commits, c, [value | {"at": before[-1]}, *commits[c][1:]])
        yield "back-dating of the commit", _with(commits, c, [v | {"at": before[-1]} for v in commits[c]])


def _swaps(commits: Commits, c: int, i: int) -> Iterator[tuple[str, Commits]]:
    d, j = (c, i + 1) if i + 1 < len(commits[c]) else (c + 1, 0)
    if d >= len(commits):
        return
    a, b = commits[c][i], commits[d][j]
    if {**a, "at": ""} == {**b, "at": ""}:
        return
    changed = [list(values) for values in commits]
    changed[c][i], changed[d][j] = b | {"at": a["at"]}, a | {"at": b["at"]}
    yield "swap", changed


def _edits(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that differs in one place."""
    if isinstance(value, dict):
        for name, item in value.items():
            for inner, edited in _edits(item, (*path, name)):
                yield inner, {**value, name: edited}
        return
    if isinstance(value, list):
        yield path, [*value, value[-1]] if value else ["node:X-1"]
        if value:
            yield path, value[:-1]
        return
    for other in _others(value, path):
        yield path, other


def _others(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    elif value is None:
        yield {"begin": "2030-04-01T00:00:00.000Z", "end": "2030-04-02T00:00:00.000Z"}
    elif path[-1] in _OTHERS:
        yield from (word for word in _OTHERS[path[-1]] if word != value)
    elif value:
        middle = len(value) // 2
        yield value[:middle] + ("1" if value[middle] != "1" else "2") + value[middle + 1 :]
    else:
        yield "OTHER"


def _with(commits: Commits, c: int, values: list[dict[str, Any]]) -> Commits:
    return [*commits[:c], values, *commits[c + 1 :]]
