"""The segments of one folder as its manifest names them, shared by every process that has the folder open.

Order at every change, so that a kill at any instant leaves each row exactly once in what the manifest names:
new file under a temporary name, fsync, rename, fsync of the folder, manifest swapped, old file unlinked.
What a killed process left behind is not in the manifest; `sweep` deletes it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from comity.errors import ConfigError
from comity.instants import to_ms
from node.store.interface import StoreError
from node.store.manifest import FILE, NAME, Manifest, Piece
from node.store.segment import Segment, faults, sync_folder

_CHANGE, _KEEP = ".change.lock", ".keep.lock"
_ENDS = ("", "-wal", "-shm", "-journal", ".tmp", ".tmp-journal")
Stamp = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One manifest with its segments; `pieces` are those that no longer grow, the newest first."""

    manifest: Manifest
    active: Segment
    pieces: tuple[tuple[Piece, Segment], ...]
    stamp: Stamp


class Aside(StoreError):
    """This part was just set aside."""

    reason = "PART_SET_ASIDE"


class Shelf:
    """Hands out views, and changes the manifest under a lock that all processes respect."""

    def __init__(self, folder: Path, clock: Callable[[], dt.datetime]) -> None:
        self.folder = folder
        self._manifest = os.fspath(folder / FILE)  # asked before each search
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = False
        stamp = self._stamp()
        self._view = self._viewed(Manifest.load(folder), stamp, {})

    @classmethod
    def create(cls, folder: Path) -> None:
        """Make `folder` (0700) with one empty hot segment and its manifest (0600), or complete what was begun.

        Raises:
            StoreError: it cannot be written, or files are there that no manifest names.
            ConfigError: another program's file is there.
        """
        with faults():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            if (folder / FILE).exists():
                return
            if {p.name for p in folder.glob("*.db") if NAME.match(p.name)} - {"hot-0.db"}:
                raise StoreError("the detection store has lost its manifest", reason="STORE_CORRUPT")
            Segment.create(folder / "hot-0.db")
            sync_folder(folder)
        Manifest(next=1, active="hot-0.db", opened_ms=0).save(folder)

    @classmethod
    def check(cls, folder: Path) -> None:
        """Return if a store is in `folder` and only its owner can reach it.

        Raises:
            ConfigError: NO_STORE, or open to others.
        """
        if not (folder / FILE).is_file():
            raise ConfigError("there is no detection store: run `comity node init`", reason="NO_STORE")
        with faults():
            paths = [p for p in folder.iterdir() if NAME.match(p.name)]
            if any(p.stat().st_mode & 0o077 for p in (folder, *paths)):
                raise ConfigError("the detection store is open to others: chmod 0700 it and 0600 its files")

    def view(self) -> View:
        """The newest view; another process may have changed the manifest.

        Raises:
            StoreError: STORE_CLOSED, or the manifest cannot be read.
        """
        if self._closed:
            raise StoreError("the detection store is closed", reason="STORE_CLOSED")
        stamp = self._stamp()
        if stamp != self._view.stamp:
            with self._lock:
                self._reload()
        return self._view

    @contextlib.contextmanager
    def changing(self) -> Iterator[Callable[[Manifest], View]]:
        """Alone in all processes, for a short while: the caller reads `view()` and hands a new manifest in.

        Raises:
            StoreError: it cannot be written, and is the old one.
        """
        with self._flock(_CHANGE):
            yield self._save

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Alone in all processes to seal, merge or purge, for as long as it takes.

        Raises:
            StoreError: the lock cannot be taken.
        """
        with self._flock(_KEEP):
            yield

    def rotate(self, stale: View) -> None:
        """The active segment of `stale` takes no more rows, and a new one does; nothing if that was done already.

        Raises:
            StoreError: it could not be done; doing it again completes it.
        """
        with self.changing() as save:
            view = self.view()
            m = view.manifest
            if m.active != stale.manifest.active:
                return
            fresh = f"hot-{m.next}.db"
            Segment.create(self.folder / fresh)
            sync_folder(self.folder)
            # Frozen before it is known: else two processes could write the same read to two segments.
            view.active.freeze()
            with view.active.reading() as c:
                rows, first, last = c.execute("SELECT count(*), min(captured_at), max(captured_at) FROM det").fetchone()
            full = Piece(name=m.active, rows=rows, begin_ms=first or 0, end_ms=last + 1 if rows else 0)
            now = to_ms(self._clock())
            save(replace(m, next=m.next + 1, active=fresh, opened_ms=now, frozen=(full, *m.frozen)))

    def opened(self, name: str) -> None:
        """The first row of the new store's first segment came now: its age counts from here.

        Raises:
            StoreError: the manifest cannot be written.
        """
        with self.changing() as save:
            m = self.view().manifest
            if m.active == name and not m.opened_ms:
                save(replace(m, opened_ms=max(1, to_ms(self._clock()))))

    def set_aside(self, name: str, reason: str) -> None:
        """The piece `name` serves no more; searches of its span fail until it is expired or put right.

        Raises:
            StoreError: the manifest cannot be written.
        """
        with self.changing() as save:
            m = self.view().manifest
            bad = [replace(p, reason=reason) for p in (*m.frozen, *m.parts) if p.name == name]
            if bad:
                m = _without(m, {name})
                save(replace(m, set_aside=(*m.set_aside, *bad)))

    def judged(self, piece: Piece | None, segment: Segment, error: StoreError) -> StoreError:
        """The fault to raise for `error`; a sealed part found to be damaged is set aside, and it is `Aside`.

        Raises:
            StoreError: the manifest cannot be written.
        """
        if piece is None or not segment.sealed or error.reason != "STORE_CORRUPT":
            return error
        self.set_aside(piece.name, "READ_FAILED")
        return Aside(str(error))

    def put_back(self, name: str) -> None:
        """The part `name`, which was set aside and is whole again, serves.

        Raises:
            StoreError: the manifest cannot be written.
        """
        with self.changing() as save:
            m = self.view().manifest
            good = [replace(p, reason="") for p in m.set_aside if p.name == name]
            save(replace(_without(m, {name}), parts=(*m.parts, *good)))

    def number(self) -> int:
        """A number that no file has had.

        Raises:
            StoreError: the manifest cannot be written.
        """
        with self.changing() as save:
            m = self.view().manifest
            save(replace(m, next=m.next + 1))
            return m.next

    def exchange(self, old: set[str], new: tuple[Piece, ...]) -> None:
        """The pieces `old` are gone, from the manifest and then from the disk, and the parts `new` serve instead.

        Raises:
            StoreError: the manifest cannot be written, or a file is still there.
        """
        with self.changing() as save:
            m = _without(self.view().manifest, old)
            save(replace(m, parts=(*m.parts, *new)))
        self.unlink(old)

    def unlink(self, names: set[str]) -> None:
        """Return when the folder durably has no file of these names.

        Raises:
            StoreError: one is still there.
        """
        with faults():
            for name in names:
                for end in _ENDS:
                    (self.folder / f"{name}{end}").unlink(missing_ok=True)
            sync_folder(self.folder)
            if any((self.folder / name).exists() for name in names):
                raise StoreError("a purged file is still in the folder")

    def sweep(self) -> None:
        """Delete what killed processes left: files that the manifest does not name. Only while `keeping`.

        Raises:
            StoreError: they cannot be deleted.
        """
        with self.changing(), faults():
            named = self.view().manifest.names
            left = {p.name.partition(".db")[0] + ".db" for p in self.folder.iterdir() if ".db" in p.name} - named
            self.unlink({name for name in left if NAME.match(name)})
            for path in self.folder.glob(f".{FILE}.*"):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of all files; closing twice does nothing."""
        self._closed = True
        for segment in (self._view.active, *(s for _, s in self._view.pieces)):
            segment.close()

    def _save(self, manifest: Manifest) -> View:
        manifest.save(self.folder)
        with self._lock:
            return self._reload()

    def _reload(self) -> View:
        stamp = self._stamp()
        old = {s.path.name: s for s in (self._view.active, *(s for _, s in self._view.pieces))}
        view = self._viewed(Manifest.load(self.folder), stamp, old)
        serving = {view.active.path.name, *(p.name for p, _ in view.pieces)}
        self._view = view
        for name, segment in old.items():
            if name not in serving:
                segment.retire()
        return view

    def _viewed(self, m: Manifest, stamp: Stamp, old: dict[str, Segment]) -> View:
        def segment(name: str, *, sealed: bool) -> Segment:
            return old.get(name) or Segment(self.folder / name, sealed=sealed)

        pieces = [(p, segment(p.name, sealed=False)) for p in m.frozen]
        pieces += [(p, segment(p.name, sealed=True)) for p in m.parts]
        pieces.sort(key=lambda pair: (pair[0].end_ms, pair[0].name), reverse=True)
        return View(manifest=m, active=segment(m.active, sealed=False), pieces=tuple(pieces), stamp=stamp)

    def _stamp(self) -> Stamp:
        try:
            status = os.stat(self._manifest)
        except OSError as e:
            raise StoreError(f"the detection store failed: {e.strerror}") from None
        return status.st_ino, status.st_mtime_ns

    @contextlib.contextmanager
    def _flock(self, name: str) -> Iterator[None]:
        with faults():
            descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with faults():
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _without(m: Manifest, names: set[str]) -> Manifest:
    def kept(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
        return tuple(p for p in pieces if p.name not in names)

    return replace(m, frozen=kept(m.frozen), parts=kept(m.parts), set_aside=kept(m.set_aside))
