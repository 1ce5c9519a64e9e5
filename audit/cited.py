"""The cosigned heads that entries cite, verified: what they say of time, and of what the log was when others saw it.

    1 proven     a head is cited with its signed note first; later entries name the same head without it
    2 own        a head of this log is one that it had, by the hashes of its own entries
    3 forwards   of one log, no smaller head is cited after a larger one
    4 signed     by its log's key and by as many witnesses as the directory asks for
    5 later      no entry is dated long before the cosignatures of the head that it cites
    6 soon       entries that nobody cosigned within an hour of their time are said: it is the log's own word

4 to 6 need the directory.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import orjson

from audit.cosignature import WitnessKey, cosignatures, witness_vkeys, witnesses_of_brokers, witnesses_of_nodes
from audit.note import Checkpoint, VerifierKey, verify_checkpoint
from comity.errors import LogFault
from identity.directory import Directory

CLOCKS_APART = dt.timedelta(minutes=10)
SOON = dt.timedelta(hours=1)
_KEPT_HEADS = 65_536  # of this log, about 150 bytes each: a head that is cited so late is not held against it


class Citations:
    """What the entries of the log `origin` have cited so far, first to last."""

    def __init__(self, origin: str, directory: Directory | None) -> None:
        self._origin, self._directory = origin, directory
        self._proven: dict[str, tuple[int, str]] = {}
        self._heads: OrderedDict[bytes, bytes] = OrderedDict()  # and the time of the entry after each
        self._forgotten = False
        self._of_brokers: Mapping[str, WitnessKey] = witnesses_of_brokers(directory) if directory else {}
        self._of_nodes: Mapping[str, WitnessKey] = witnesses_of_nodes(directory) if directory else {}
        self.in_force = 0  # the directory's version when the entries were written, as far as inquiries say it
        self.unknown = self.few = self.old = 0
        self._witnessed = bool(directory and witness_vkeys(directory, origin))
        self._at = b""
        self._unseen: tuple[int, bytes] | None = None  # the first entry under no cosigned head, and its time
        self._late: list[tuple[int, int]] = []

    def had(self, head: bytes, at: bytes) -> None:
        """The log was that large, with that root: a head as the entry after it cites it, at that time; it is true."""
        self._heads[head] = self._at = at
        if self._unseen is None:
            self._unseen = 0, at
        if len(self._heads) > _KEPT_HEADS:
            self._heads.popitem(last=False)
            self._forgotten = True

    def take(self, index: int, at: bytes, peers: bytes) -> None:
        """Entry `index`, of the time `at`, cites `peers`, in JSON and in their form.

        Raises:
            LogFault: WRONG_PEER, BAD_PEER, BAD_COSIGNATURE, TOO_FEW_COSIGNATURES or COSIGNED_LATER.
        """
        for peer in orjson.loads(peers):
            self._one(index, at, peer)

    def warnings(self) -> list[str]:
        """What a reader of the report must know besides."""
        said = []
        if self._directory is None and self._proven:
            said.append("signatures of cited heads were not verified, only their structure: give a directory")
        if self.unknown:
            said.append(f"{self.unknown} cited heads are of logs that the directory does not name")
        if self.few:
            said.append(
                f"{self.few} cited heads have fewer cosignatures of the directory's witnesses than it asks for; "
                "another directory may have been in force"
            )
        if self._late:
            first, last = self._late[0]
            more = f", and so were {len(self._late) - 1} more stretches" if len(self._late) > 1 else ""
            said.append(
                f"entries {first} to {last} were cosigned more than an hour after the time of the first of them{more}: "
                "times within are the log's own word"
            )
        if self._witnessed and self._unseen and _time(self._at) - _time(self._unseen[1]) > SOON:
            said.append(f"from entry {self._unseen[0]} on, over more than an hour, the log shows no cosigned head")
        if self.old:
            said.append(f"{self.old} cited heads of this log were too old to be held against it")
        return said

    def _one(self, index: int, at: bytes, peer: Mapping[str, Any]) -> None:
        origin, head = peer["origin"], (peer["size"], peer["root"])
        note = peer.get("note")
        if note is None:
            if self._proven.get(origin) != head:
                raise _wrong(index, "cites a head of which the log has shown no signed note")
            return
        try:
            shown = Checkpoint.parse(note.encode())
        except LogFault:
            raise _wrong(index, "cites a head with a malformed note") from None
        if (shown.origin, shown.size, shown.root.hex()) != (origin, *head):
            raise _wrong(index, "cites another head than its note says")
        if head[0] < self._proven.get(origin, (0, ""))[0]:
            raise _wrong(index, "cites a smaller head of a log than was cited before")
        if origin == self._origin:
            self._own(index, head)
        self._proven[origin] = head
        if self._directory is not None:
            self._signed(index, at, origin, note.encode(), self._directory)

    def _own(self, index: int, head: tuple[int, str]) -> None:
        if _json(head) in self._heads:
            return
        if self._forgotten and head[0] < orjson.loads(next(iter(self._heads)))["size"]:
            self.old += 1
            return
        raise _wrong(index, "cites a head of its own log that the log never had")

    def _signed(self, index: int, at: bytes, origin: str, note: bytes, directory: Directory) -> None:
        log = directory.logs.get(origin)
        if log is None:
            self.unknown += 1
            return
        try:
            verify_checkpoint(note, VerifierKey.of(origin, log.key))
        except LogFault as e:
            raise LogFault(f"entry {index} cites a head: {e}", index=index, reason="BAD_PEER") from None
        witnesses = self._of_brokers if log.program == "broker" else {**self._of_nodes, **self._of_brokers}
        try:
            seen = cosignatures(note, witnesses.values())
        except LogFault as e:
            raise LogFault(f"entry {index} cites a head: {e}", index=index, reason=e.reason) from None
        quorum = directory.federation.quorum if origin == self._origin and log.program == "broker" else 1
        if len(seen) < max(1, quorum):
            self._few(index, directory)
        elif origin == self._origin:
            head = Checkpoint.parse(note)
            self._seen(head.size, _json((head.size, head.root.hex())), sorted(seen.values())[max(1, quorum) - 1])
        if seen and min(seen.values()) - CLOCKS_APART > _time(at):
            message = f"entry {index} is dated long before the head that it cites was cosigned: it was back-dated"
            raise LogFault(message, index=index, reason="COSIGNED_LATER")

    def _seen(self, size: int, head: bytes, cosigned_at: dt.datetime) -> None:
        """Step 6: in a gap, such as a weekend's stop, the log's operator could have dated an entry anywhere."""
        if self._unseen and size > self._unseen[0]:
            if self._unseen[1] and cosigned_at - _time(self._unseen[1]) > SOON:
                self._late.append((self._unseen[0], size - 1))
            self._unseen = size, self._heads.get(head, self._at)

    def _few(self, index: int, directory: Directory) -> None:
        if self.in_force != directory.version:
            self.few += 1
            return
        message = f"entry {index} cites a head with fewer cosignatures than the directory asks for"
        raise LogFault(message, index=index, reason="TOO_FEW_COSIGNATURES")


def _time(at: bytes) -> dt.datetime:
    return dt.datetime.fromisoformat(at.decode())


def _json(head: tuple[int, str]) -> bytes:
    return b'{"root":"%s","size":%d}' % (head[1].encode(), head[0])


def _wrong(index: int, what: str) -> LogFault:
    return LogFault(f"entry {index} {what}", index=index, reason="WRONG_PEER")
