"""A whole run of entries known by their bytes at once: decisions, outcomes and receipts as programs write them.

One pattern is laid over all of them, a line each. It only cuts: what stands between the cuts is held against exact
patterns made of the types' forms (`audit.form.SHAPES`), piece by piece, and since the pieces of a line are the line, an
entry whose every piece is right is canonical and in its form. Most pieces are the same as in the entry before, or are
known from one of some thousand before, and looking them up is all there is to do. What no other entry says again
(hashes, signatures) is gathered from all lines and held against its alphabet in one go.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from audit import form
from audit.entry import MAX_ENTRY_BYTES

T = TypeVar("T")
Said = tuple[bytes, ...]
_KEPT_BYTES = 8_000_000  # pieces of a kind: some thousand as programs write them, fewer of those made to be long
_OVERHEAD_BYTES = 500  # of a piece, beyond its length: what it says, and its place


class Known(dict[bytes, "T | None"]):
    """For a piece of an entry what it says; None if it is not known to be right. Works out what it is asked first."""

    def __init__(self, read: Callable[[bytes], T | None]) -> None:
        super().__init__()
        self._read, self._left = read, _KEPT_BYTES

    def __missing__(self, piece: bytes) -> T | None:
        self._left -= len(piece) + _OVERHEAD_BYTES
        if self._left < 0:
            self.clear()
            self._left = _KEPT_BYTES - len(piece) - _OVERHEAD_BYTES
        self[piece] = said = self._read(piece)
        return said


def known(pattern: str) -> Callable[[bytes], Said | None]:
    """What reads a piece that is of that pattern, whole: its groups. None of any other."""
    match = re.compile(pattern.encode("latin-1")).fullmatch

    def read(piece: bytes) -> Said | None:
        found = match(piece)
        return found.groups() if found else None

    return read


def fields(kind: str, *names: str, **shapes: str) -> str:
    """The exact pattern of those fields of a type, one after the other; `shapes` to take instead of their own."""
    required = form.ENTRIES[kind].required
    return ",".join(f'"{name}":{shapes.get(name) or form.shape_of(required[name])}' for name in names)


def inside(check: form.Check) -> str:
    """The shape of what stands between the quotes of a text."""
    return form.shape_of(check)[1:-1]


def passed_over(example: str) -> str:
    """So many bytes, whatever they are: a step that costs nothing, since what they are is looked at elsewhere."""
    return f".{{{len(example)}}}"


_TIME, _HEX, _UUID = "2030-05-01T12:00:00.000Z", "0" * 64, "01bb4754-0200-7800-aa0e-1b509ca7a0ac"
# Every run of unknown length has a most and gives nothing back: an entry, or 256 of them, made to be cut in very many
# ways would otherwise be tried in all of them, for days.
_DIGITS = "[0-9]{1,16}+"
HEAD = passed_over(f'{{"root":"{_HEX}","size":') + _DIGITS
_CITED = HEAD + passed_over(f'}},"inquiry_hash":"{_HEX}","inquiry_id":"{_UUID}"')
_INDEX = "(0|[1-9][0-9]{0,14})"
_ENDS = "[AEIMQUYcgkosw048]="  # of base64 whose last three digits are two bytes
NAME = r"[!#-*,-\[\]-~]{1,200}"

_DECISION = (
    rf'decision_id":"([^"]{{1,200}}+)",{fields("decision", "effect")},"federation_digest":'
    rf"({passed_over(f'`{_HEX}`,`head`:')}{_CITED})"
)
_OUTCOME = (
    rf'count":({_DIGITS},"coverage":(?:null|{passed_over(f"{{`begin`:`{_TIME}`,`end`:`{_TIME}`}}")})),"head":({_CITED})'
    rf'(,"node":"[^"]{{0,63}}+","outcome":"[^"]{{0,63}}+"),"payload_hash":"({passed_over(_HEX)}|)"'
)
_NOTE = (
    rf"([^\\]{{0,200}}+)\\n{_INDEX}\\n(.{{42}}){_ENDS}\\n\\n"
    rf"\xe2\x80\x94 ([^ ]{{0,200}}+) (.{{90}}){_ENDS}\\n"
)
_RECEIPT = (
    rf'checkpoint":"{_NOTE}","head":({HEAD}\}}),"index":{_INDEX},"inquiry_id":"({passed_over(_UUID)})",'
    rf'"leaf_hash":"({passed_over(_HEX)})"'
)
_BEGUN = rf'(\{{(?:"approved":(?:true|false),)?"at":{passed_over(f"`{_TIME}`")}),"'
_REST = r"([^\[]{0,1000}+)(\[[^\]]{0,8192}+\])([^\n]*+)"
_LINES = re.compile(
    rf"(?:{_BEGUN}(?:{_DECISION}|{_OUTCOME}|{_RECEIPT}){_REST}|([^\n]*+))\n".encode("latin-1"),
    re.DOTALL,
).findall


def lines(entries: Sequence[bytes]) -> list[tuple[bytes, ...]] | None:
    """The pieces of each entry, in order; None if that cannot be told.

    Pieces: `begun`; of a decision id, `cited`; of an outcome `counted`, `cited`, `node`, hash; of a receipt origin,
    size, root, name, signature, head, index, inquiry id, hash; of all three `middle`, `peers`, `end`. Of any other one:
    the whole.
    """
    if b"\n" in b"".join(entries):
        return None
    found = _LINES(b"\n".join((*entries, b"")))
    # Each match ends with a newline and begins where the one before ended: as many of them as there are newlines
    # means that each is one entry, whole, whatever was passed over in it.
    return found if len(found) == len(entries) else None


class Gathered:
    """What no two entries share, of all of them."""

    def __init__(self) -> None:
        self.ids, self.hexes, self.base64 = list[bytes](), list[bytes](), list[bytes]()

    def are_right(self) -> bool:
        """True if nothing is in them that may not be; how long each is was seen before."""
        every = ((self.ids, _REFERENCE), (self.hexes, _HEX_DIGITS), (self.base64, _BASE64_DIGITS))
        return not any(b"".join(pieces).translate(None, allowed) for pieces, allowed in every)


_HEX_DIGITS, _BASE64_DIGITS = b"0123456789abcdef", string.ascii_letters.encode() + b"0123456789+/"
_REFERENCE = bytes(c for c in range(256) if re.fullmatch(inside(form.reference), chr(c), re.ASCII))

_AT, _NODE, _ORIGIN = (f'"({inside(check)})"' for check in (form.time, form.identifier, form.origin))
_ABOUT = f'"inquiry_hash":"({inside(form.hash_hex)})","inquiry_id":"({inside(form.inquiry_id)})"'
_SAID = f"({form.shape_of(form.head)}),{_ABOUT}"
_ENDED = ',"type":"{}","v":1\\}}'

_decision_begun = known(rf'\{{{fields("decision", "approved")},"at":{_AT}')
_begun = known(rf'\{{"at":{_AT}')
_decision_cited = known(rf'{form.shape_of(form.maybe_hash_hex)},"head":{_SAID}')
_outcome_cited = known(_SAID)
_receipt_cited = known(f"({form.shape_of(form.head)})()()")
_node_decided = Known(known(f',{fields("decision", "node", "obligations", node=_NODE)},"peers":'))
_node_answered = Known(known(f",{fields('outcome', 'node', 'outcome', node=_NODE)}"))
_origin = Known(known(rf',{fields("receipt", "node", "origin", origin=_ORIGIN)},"peers":'))
_is_counted = Known(known(fields("outcome", "count", "coverage").removeprefix('"count":')))
_is_id = known(inside(form.inquiry_id))
_is_name = Known(known(NAME))
_decision_ends = Known(
    known(f",{fields('decision', 'pep', 'policy_digest', 'reason_code', 'rules')}{_ENDED.format('decision')}")
)
_outcome_ends = Known(known(f",{fields('outcome', 'reason_code')}{_ENDED.format('outcome')}"))
_receipt_ends = Known(known(_ENDED.format("receipt")))
are_peers = Known(known(form.shape_of(form.peers)))

Commit = tuple[bytes, bytes]  # time and head
_Cited = tuple[Commit, bytes, bytes]  # with the inquiry's hash and id; empty in a receipt


class Taker(Protocol):
    """Who is told, entry by entry, what is seen."""

    def stamped(self, index: int, commit: Commit, peers: bytes) -> None:
        """From `index` on entries are of that commit and cite those peers."""

    def saying(self, kind: str, inquiry_id: bytes, inquiry_hash: bytes) -> tuple[list[bytes], list[int]]:
        """Where to add the nodes that are decided on or have answered, and which entries say so."""

    def single(self, index: int, entry: bytes) -> None:
        """Look at this one by itself."""


def skim(first: int, entries: Sequence[bytes], taker: Taker) -> bool:
    """Tell `taker` what is seen of each, or leave it to it. False: what it was told counts for nothing.

    Raises:
        LogFault: as `taker.single`.
    """
    found = lines(entries) if max(map(len, entries)) <= MAX_ENTRY_BYTES else None
    if found is None:
        return False
    reader, gathered = _Reader(), Gathered()
    was_peers, was, said_of, nodes, indexes = b"", None, None, list[bytes](), list[int]()
    for index, (begun, id_, of_decision, counted, of_outcome, node, payload_hash, origin, size, root, name, signature,
                of_receipt, at, about, leaf, middle, peers, end, _) in enumerate(found, first):  # fmt: skip
        here = cited = None
        if of_decision:
            cited = reader.decision(begun, of_decision)
            if _decision_ends[end] is not None:
                here = _node_decided[middle]
                gathered.ids.append(id_)
        elif counted:
            cited = reader.outcome(begun, of_outcome)
            if middle == _NO_MIDDLE and _outcome_ends[end] is not None and _is_counted[counted] is not None:
                here = _node_answered[node]
                gathered.hexes.append(payload_hash)
        elif leaf:
            cited = reader.receipt(begun, of_receipt)
            if _receipt_ends[end] is not None and reader.covers(origin, size, name, at, about):
                here = _origin[middle] if _origin[middle] == (origin,) else None
                gathered.hexes.append(leaf)
                gathered.base64 += (root, signature)
        if here is None or cited is None or (peers != was_peers and are_peers[peers] is None):
            taker.single(index, entries[index - first])
            was = said_of = None
            continue
        if cited[0] is not was or peers != was_peers:
            was, was_peers, said_of = cited[0], peers, None
            taker.stamped(index, was, peers)
        if not leaf:
            if cited is not said_of:
                nodes, indexes = taker.saying("decision" if of_decision else "outcome", cited[2], cited[1])
                said_of = cited
            nodes.append(here[0])
            indexes.append(index)
    return gathered.are_right()


_NO_MIDDLE = b',"peers":'


class _Reader:
    """What the entry before of each type cited, since the next mostly cites the same."""

    def __init__(self) -> None:
        self._commits: dict[Commit, Commit] = {}
        self._decision = self._outcome = self._receipt = (b"", b"")
        self._decided: _Cited | None = None
        self._answered: _Cited | None = None
        self._received: _Cited | None = None
        self._id = b""

    def decision(self, begun: bytes, cited: bytes) -> _Cited | None:
        if (begun, cited) != self._decision:
            self._decision = begun, cited
            self._decided = self._read(_decision_begun(begun), _decision_cited(cited))
        return self._decided

    def outcome(self, begun: bytes, cited: bytes) -> _Cited | None:
        if (begun, cited) != self._outcome:
            self._outcome = begun, cited
            self._answered = self._read(_begun(begun), _outcome_cited(cited))
        return self._answered

    def receipt(self, begun: bytes, cited: bytes) -> _Cited | None:
        if (begun, cited) != self._receipt:
            self._receipt = begun, cited
            self._received = self._read(_begun(begun), _receipt_cited(cited))
        return self._received

    def covers(self, origin: bytes, size: bytes, name: bytes, index: bytes, id_: bytes) -> bool:
        """True if the checkpoint in a receipt covers the entry it is for, and all this is in its form."""
        if id_ != self._id:
            if _is_id(id_) is None:
                return False
            self._id = id_
        return int(index) < int(size) and _is_name[name] is not None and _is_name[origin] is not None

    def _read(self, begun: Said | None, cited: Said | None) -> _Cited | None:
        if begun is None or cited is None:
            return None
        commit = begun[0], cited[0]
        return self._commits.setdefault(commit, commit), cited[1], cited[2]
