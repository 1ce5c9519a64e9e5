"""Stand-ins with the real interfaces, for tests of the core: a clock, a log, a wire, a store, signers and state."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.entry import Draft, Stamp, seal
from audit.log import AlreadyRecorded, Appended, DecisionLog, SignedHead
from audit.note import Checkpoint, VerifierKey
from audit.tree import Tree, leaf_hash
from broker.links import Item
from broker.model import Work
from comity.detection import Detection, Match, MatchClass
from comity.envelope import Envelope, Signature
from comity.errors import Unavailable
from comity.instants import to_text
from comity.plate import Plate
from comity.query import AreaQuery, ConvoyQuery, PatternQuery
from node.kept import Kept
from node.model import Signed
from node.store.interface import Added, Gap, Purged, check_bounds, check_search

Journal = list[str]  # what happened, in order, over several fakes


class FixedClock:
    """A clock that shows what it was last set to."""

    def __init__(self, at: dt.datetime) -> None:
        self.at = at

    def __call__(self) -> dt.datetime:
        return self.at

    def move(self, **by: float) -> None:
        self.at += dt.timedelta(**by)


class PlainSigner:
    """Envelopes whose signature nobody verifies."""

    def sign(self, payload_type: str, payload: bytes) -> Envelope:
        return Envelope(
            payload_type=payload_type, payload=payload, signatures=(Signature(signature=b"s", chain=(b"leaf",)),)
        )


class FakeLog(DecisionLog):
    """The log in memory: real entries, hashes and checkpoints, no file and no thread.

    `failing`: the errors of the next calls, None for one that works. `journal` hears the types of each call.
    """

    def __init__(self, origin: str, clock: Callable[[], dt.datetime], journal: Journal | None = None) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.vkey = VerifierKey.of(origin, self.key.public_key())
        self.calls: list[tuple[Draft, ...]] = []
        self.failing: list[BaseException | None] = []
        self.journal: Journal = [] if journal is None else journal
        self.open_gate = asyncio.Event()
        self.open_gate.set()
        self._clock = clock
        self._tree = Tree()
        self._inquiries: dict[str, int] = {}

    @property
    def drafts(self) -> list[Draft]:
        """Everything recorded, in order."""
        return [d for call in self.calls for d in call]

    def bodies(self, kind: str) -> list[Mapping[str, object]]:
        """The bodies of all entries of that type."""
        return [d.body for d in self.drafts if d.type == kind]

    async def append(self, drafts: Sequence[Draft], *, deadline_s: float | None = None) -> Appended:
        """As the real one, or the next of `failing`."""
        await self.open_gate.wait()
        if self.failing and (error := self.failing.pop(0)) is not None:
            self.journal.append("log failed")
            raise error
        first = self._tree.size
        for i, draft in enumerate(drafts):
            if draft.type == "inquiry":
                inquiry_id = str(draft.body["inquiry_id"])
                if inquiry_id in self._inquiries:
                    raise AlreadyRecorded(self._inquiries[inquiry_id])
                self._inquiries[inquiry_id] = first + i
        stamp = Stamp(at=to_text(self._clock()), clock_behind_ms=0, size=first, root=self._tree.root().hex())
        entries = tuple(seal(d, stamp) for d in drafts)
        for entry in entries:
            self._tree.append(leaf_hash(entry))
        self.calls.append(tuple(drafts))
        self.journal.append("log " + " ".join(d.type for d in drafts))
        checkpoint = Checkpoint(origin=self.vkey.name, size=self._tree.size, root=self._tree.root()).sign(self.key)
        return Appended(
            first_index=first,
            entries=entries,
            leaf_hashes=tuple(map(leaf_hash, entries)),
            head=SignedHead(size=self._tree.size, root=self._tree.root(), checkpoint=checkpoint),
        )


class FakeGate:
    """A release gate that is open until it is closed with an error."""

    def __init__(self) -> None:
        self.closed: Unavailable | None = None

    async def opened(self, within_s: float) -> None:
        self.check()

    def check(self) -> None:
        if self.closed is not None:
            raise self.closed


class FakeWire:
    """One node's stream: what was sent on it, and what the node does when it is sent work."""

    def __init__(self, on_work: Callable[[Work], None] | None = None, journal: Journal | None = None) -> None:
        self.sent: list[Item] = []
        self.reached = asyncio.Event()
        self.on_work = on_work
        self.journal: Journal = [] if journal is None else journal

    def __call__(self, item: Item) -> None:
        self.sent.append(item)
        if isinstance(item, Work):
            self.journal.append(f"work {item.receipt.node}")
            self.reached.set()
            if self.on_work is not None:
                self.on_work(item)

    @property
    def work(self) -> list[Work]:
        return [w for w in self.sent if isinstance(w, Work)]

    @property
    def cancelled(self) -> list[str]:
        return [w for w in self.sent if isinstance(w, str)]


class FakeStore:
    """A DetectionStore in memory. `failing` is raised by every search; `horizon_at` is what `horizon` says."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.rows: list[Detection] = []
        self.searches = 0
        self.failing: Exception | None = None
        self.horizon_at = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
        self.gaps_known: tuple[Gap, ...] = ()
        self.journal: Journal = [] if journal is None else journal

    def add(self, batch: Sequence[Detection]) -> Added:
        new = [d for d in batch if d not in self.rows]
        self.rows += new
        return Added(accepted=len(new), duplicates=len(batch) - len(new))

    def exact(self, plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        found = self._find(plate, begin, end, limit)
        return [m for m in found if m.detection.plate.number == plate.number][: limit + 1]

    def confusable(self, plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        return self._find(plate, begin, end, limit)[: limit + 1]

    def partial(self, query: PatternQuery, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        found = self._searched([d for d in self.rows if query.matches(d.plate)], begin, end, limit)
        return [Match(detection=d, match_class=MatchClass.PARTIAL) for d in found]

    def area(self, query: AreaQuery, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        found = self._searched([d for d in self.rows if _in_area(query, d)], begin, end, limit)
        return [Match(detection=d, match_class=MatchClass.EXACT) for d in found]

    def unplaced(self, begin: dt.datetime, end: dt.datetime) -> bool:
        return any(d.latitude_e7 is None for d in self.rows if begin <= d.captured_at < end)

    def convoy(
        self, query: ConvoyQuery, sightings: Sequence[Detection], begin: dt.datetime, end: dt.datetime, limit: int
    ) -> list[Match]:
        beside = [
            d
            for d in self.rows
            if begin <= d.captured_at < end
            and d.plate.skeleton != query.plate.skeleton
            and any(
                s.camera == d.camera and abs((s.captured_at - d.captured_at).total_seconds()) <= query.within_s
                for s in sightings
            )
        ]
        cameras = {d.plate.number: {o.camera for o in beside if o.plate.number == d.plate.number} for d in beside}
        found = [d for d in beside if len(cameras[d.plate.number]) >= query.cameras]
        return [Match(detection=d, match_class=MatchClass.EXACT) for d in self._searched(found, begin, end, limit)]

    def horizon(self) -> dt.datetime:
        return self.horizon_at

    def gaps(self, begin: dt.datetime, end: dt.datetime) -> tuple[Gap, ...]:
        return tuple(g for g in self.gaps_known if g.begin < end and begin < g.end)

    def oldest(self) -> dt.datetime | None:
        return min((d.captured_at for d in self.rows), default=None)

    def newest(self) -> dt.datetime | None:
        return max((d.captured_at for d in self.rows), default=None)

    def count(self) -> int:
        return len(self.rows)

    def purge(self, before: dt.datetime) -> Purged:
        gone = [d.captured_at for d in self.rows if d.captured_at < before]
        self.rows = [d for d in self.rows if d.captured_at >= before]
        return Purged(rows=len(gone), oldest=min(gone, default=None), newest=max(gone, default=None))

    def close(self) -> None:
        self.rows = []

    def _find(self, plate: Plate, begin: dt.datetime, end: dt.datetime, limit: int) -> list[Match]:
        check_search(plate, begin, end, limit)
        rows = [d for d in self.rows if d.plate.skeleton == plate.skeleton]
        return [
            Match(detection=d, match_class=MatchClass.EXACT if d.plate == plate else MatchClass.CONFUSABLE)
            for d in self._searched(rows, begin, end, len(rows))
        ]

    def _searched(self, rows: Sequence[Detection], begin: dt.datetime, end: dt.datetime, limit: int) -> list[Detection]:
        check_bounds(begin, end, max(1, limit))
        self.searches += 1
        self.journal.append("store searched")
        if self.failing is not None:
            raise self.failing
        inside = [d for d in rows if begin <= d.captured_at < end]
        return sorted(inside, key=lambda d: (d.captured_at, d.uid), reverse=True)[: limit + 1]


def _in_area(query: AreaQuery, d: Detection) -> bool:
    if query.circle is None:
        return d.camera == query.camera
    return (
        d.latitude_e7 is not None
        and d.longitude_e7 is not None
        and query.circle.contains(d.latitude_e7, d.longitude_e7)
    )


class FailingKept(Kept):
    """A table of kept answers that can be read and not be written."""

    def put(self, signed: Signed, until: dt.datetime) -> None:
        raise Unavailable("the answer cannot be kept", reason="KEPT_UNAVAILABLE")


class JournalKept(Kept):
    """A table of kept answers that tells the journal when one is kept."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        super().__init__(folder)
        self.journal = journal

    def put(self, signed: Signed, until: dt.datetime) -> None:
        self.journal.append("kept")
        super().put(signed, until)


class OpenReplayGuard:
    """A replay guard that has seen what it is told, or cannot be asked."""

    def __init__(self, *, seen: bool = False, failing: Exception | None = None) -> None:
        self.seen, self.failing = seen, failing
        self.until: list[dt.datetime] = []

    async def claim(self, inquiry_id: str, nonce: bytes, until: dt.datetime) -> bool:
        if self.failing is not None:
            raise self.failing
        self.until.append(until)
        return not self.seen
