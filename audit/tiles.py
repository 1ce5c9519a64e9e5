"""The log as C2SP tiles, for verifiers that nobody here wrote: derived from it, off the critical path.

    checkpoint                  the signed head, written last: all it signs is there
    tile/L/NNN[.p/W]            256 hashes of level L, or the W at the right edge
    tile/entries/NNN[.p/W]      the entries under them, each after its length (u16, big-endian)
    checkpoint.cosigned         where asked for: the newest head that witnesses have signed too
    log.vkey, witness.vkeys     the keys that the checkpoint's signatures are checked with

Source: C2SP tlog-tiles. A partial tile is kept until the full one is there, as it allows.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.hashes import HEIGHT, TILE_BYTES, WIDTH, Hashes, HashReader, Progress, reading, tile_root
from audit.note import MAX_NOTE_BYTES, Checkpoint, VerifierKey, verify_checkpoint
from audit.proof import tree_root
from audit.tree import HASH_BYTES, Tree, leaf_hash
from comity.errors import ConfigError, LogFault
from identity import files

CHECKPOINT, VKEY, WITNESSES, TILE = "checkpoint", "log.vkey", "witness.vkeys", "tile"
ENTRIES = "entries"
COSIGNED = "checkpoint.cosigned"
_BATCH = 8 * WIDTH
_UNSYNCED = 256  # files that are made durable together: one journal commit, not one each
_ENTRY_LENGTH_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What is in the folder now: the head, from which entry on it was written anew, and how many files that took."""

    head: Checkpoint
    begun_at: int
    files: int


def tile_path(level: int | str, number: int, width: int = WIDTH) -> str:
    """The tile's path: `tile/0/x001/x234/067`, with `.p/W` after it if it is partial. A bundle's level is `entries`."""
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.append(f"x{number % 1000:03d}")
    partial = f".p/{width}" if width < WIDTH else ""
    return f"{TILE}/{level}/{'/'.join(reversed(groups))}{partial}"


class TileFolder:
    """Tiles on disk, read. Nothing is believed: whoever makes a proof from them leads it to the signed root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def checkpoint(self) -> bytes:
        """The signed note, not verified.

        Raises:
            ConfigError: there is none (FILE_UNREADABLE), or it is too large to be one (FILE_TOO_LARGE).
        """
        return files.read(self.folder / CHECKPOINT, max_bytes=MAX_NOTE_BYTES)

    def hashes(self, size: int) -> Hashes:
        """The inner hashes of the tree of the first `size` entries, which some checkpoint of this folder covered."""
        return Hashes(size, self.read)

    def read(self, level: int, number: int, width: int) -> bytes:
        """The first `width` hashes of a tile, from its partial form or, if that is gone, from the full one.

        Raises:
            LogFault: neither is there and whole (BAD_TILE).
        """
        wanted = width * HASH_BYTES
        for path in dict.fromkeys((tile_path(level, number, width), tile_path(level, number))):
            # Somebody else's folder may hold a pipe there, or a link to what never ends.
            with contextlib.suppress(ConfigError):
                data = files.read(self.folder / path, max_bytes=TILE_BYTES)
                if len(data) in (wanted, TILE_BYTES):
                    return data[:wanted]
        raise LogFault(f"{tile_path(level, number, width)} is not there or not whole", reason="BAD_TILE")


def publish(
    log: Path | str,
    out: Path,
    *,
    vkey: str | None = None,
    witnesses: Sequence[str] | None = None,
    rebuild: bool = False,
    progress: Progress | None = None,
) -> Published:
    """The folder `out` holds the log at `log` as of its newest head; what is there already is not written again.

    The log may be in use: no transaction is held open on it. A crash at any point leaves the checkpoint before and
    all it signs. Every entry is hashed and the root compared with the signed one before the new checkpoint stands.
    `vkey` is the log's key, its own `log.vkey` if None; `witnesses` are verifier keys, what is there if None.
    `rebuild` writes everything anew. Blocks for long: call it off the event loop.

    Raises:
        ConfigError: NO_LOG, NO_KEY, NOT_TILES (something else is in `out`), TILES_IN_USE, FILE_UNWRITABLE.
        InvalidInput: BAD_VKEY.
        LogFault: the log is not what its head signs; or it is not the one that was published here (OTHER_LOG), has
            become smaller (ROLLED_BACK), or has another beginning (FORKED): the checkpoint there and all it signs
            stay, as evidence.
        Unavailable: LOG_CHANGED.
    """
    with _locked(out), reading(log) as reader:
        key = reader.key(vkey)
        size, note = reader.head()
        head = verify_checkpoint(note, key)
        if head.size != size:
            raise LogFault("the head's size is not the one that was signed", reason="WRONG_SIZE")
        old = _old_head(out, head, key)
        growing = None if rebuild else _resumed(out, old, reader)
        if growing is None:
            _check_beginning(reader, old, progress)
        elif old is not None and old.size == size:
            _write_keys(out, key, witnesses)
            return Published(head=head, begun_at=size, files=0)
        growing = growing or _Growing(out)
        begun_at = growing.size
        growing.extend(reader, size, progress)
        if growing.root() != head.root:
            _check_beginning(reader, old, progress)
            raise LogFault("the hashes of all entries are not the root that was signed", reason="WRONG_ROOT")
        growing.finish()
        _write_keys(out, key, witnesses)
        _write(out / CHECKPOINT, note)
        _remove_partials(out, old.size if old else 0, size)
    return Published(head=head, begun_at=begun_at, files=growing.written)


def publish_cosigned(out: Path, head: Checkpoint, note: bytes) -> None:
    """`checkpoint.cosigned` of the tiles in `out`, which were published as of `head`, is that note: a head before it.

    Raises:
        ConfigError: FILE_UNWRITABLE.
        LogFault: BAD_CHECKPOINT, or the tiles do not lead to its root (FORKED).
    """
    cosigned, tiles = Checkpoint.parse(note), TileFolder(out)
    if cosigned.size > head.size or tree_root(cosigned.size, tiles.hashes(head.size).subtree) != cosigned.root:
        raise LogFault("witnesses signed another head than the log had then: keep both as evidence", reason="FORKED")
    _write(out / COSIGNED, note)


class _Growing:
    """The right edge of the tiles, written where they get full; `extend` leaves the partial ones to `finish`."""

    def __init__(self, out: Path, edges: Iterable[bytes] = (b"",), size: int = 0) -> None:
        self.out, self.size, self.written = out, size, 0
        self._edges = [bytearray(edge) for edge in edges]
        self._bundle: list[bytes] = []
        self._unsynced: list[Path] = []
        self._folders: set[Path] = set()

    def extend(self, reader: HashReader, size: int, progress: Progress | None = None) -> None:
        """Take up the log's entries as far as `size`.

        Raises:
            LogFault: one is missing (MISSING) or too large for the format (TOO_LARGE).
        """
        while self.size < size:
            if progress:
                progress(self.size, size)
            stop = min(size, self.size + _BATCH)
            entries = reader.entries(self.size, stop)
            if len(entries) != stop - self.size:
                raise LogFault(f"an entry is missing from {self.size} on", index=self.size, reason="MISSING")
            for entry in entries:
                self._add(entry)

    def root(self) -> bytes:
        """The root over all that was taken up."""
        return tree_root(self.size, Hashes(self.size, lambda level, *_: bytes(self._edges[level])).subtree)

    def finish(self) -> None:
        """The partial tiles are there too, and all files durable."""
        for level, edge in enumerate(self._edges):
            if edge:
                self._put(level, (self.size >> (HEIGHT * level)) // WIDTH, bytes(edge), len(edge) // HASH_BYTES)
        if self._bundle:
            self._put(ENTRIES, self.size // WIDTH, b"".join(self._bundle), len(self._bundle))
        self._sync()
        for folder in sorted(self._folders):
            _sync_folder(folder)

    def _add(self, entry: bytes) -> None:
        if type(entry) is not bytes or len(entry) >= 1 << 8 * _ENTRY_LENGTH_BYTES:
            raise LogFault(f"entry {self.size} is too large for a tile", index=self.size, reason="TOO_LARGE")
        self._bundle.append(len(entry).to_bytes(_ENTRY_LENGTH_BYTES) + entry)
        number = self.size // WIDTH
        self.size += 1
        if len(self._bundle) == WIDTH:
            self._put(ENTRIES, number, b"".join(self._bundle))
            self._bundle.clear()
        root, level = leaf_hash(entry), 0
        while True:
            if level == len(self._edges):
                self._edges.append(bytearray())
            edge = self._edges[level]
            edge += root
            if len(edge) < TILE_BYTES:
                return
            data = bytes(edge)
            edge.clear()
            self._put(level, (self.size >> (HEIGHT * level)) // WIDTH - 1, data)
            root, level = tile_root(data), level + 1

    def _put(self, level: int | str, number: int, data: bytes, width: int = WIDTH) -> None:
        path = self.out / tile_path(level, number, width)
        _make_folder(path.parent)
        with open(
            os.open(_draft(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, files.PRIVATE), "wb"
        ) as f:
            f.write(data)
        self._unsynced.append(path)
        self.written += 1
        if len(self._unsynced) >= _UNSYNCED:
            self._sync()

    def _sync(self) -> None:
        """What was put stands durably under its name: never a name whose bytes a power cut could take."""
        for path in self._unsynced:
            fd = os.open(_draft(path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        for path in self._unsynced:
            _draft(path).replace(path)
            self._folders |= {folder for folder in path.parents if folder.is_relative_to(self.out)}
        self._unsynced.clear()


def _resumed(out: Path, old: Checkpoint | None, reader: HashReader) -> _Growing | None:
    """The edge at the last full bundle, if tiles and log lead to the root that was published; None if they do not."""
    if old is None:
        return None
    base = old.size - old.size % WIDTH
    tiles, edges = TileFolder(out), [b""]
    try:
        for level in range(1, 64 // HEIGHT):
            number, width = divmod(base >> (HEIGHT * level), WIDTH)
            edges.append(tiles.read(level, number, width) if width else b"")
        growing = _Growing(out, edges, base)
        check = _Growing(out, [b"".join(reader.hashes(base, old.size)), *edges[1:]], old.size)
    except LogFault:
        return None
    return growing if check.root() == old.root else None


def _check_beginning(reader: HashReader, old: Checkpoint | None, progress: Progress | None) -> None:
    """Before anything is overwritten: tiles that cannot be resumed are damaged, or show that the log was replaced."""
    if old is not None and Tree(reader.all_hashes(old.size, progress)).root() != old.root:
        message = f"the first {old.size} entries are not those that were published: keep both as evidence"
        raise LogFault(message, reason="FORKED")


def _old_head(out: Path, head: Checkpoint, key: VerifierKey) -> Checkpoint | None:
    """The checkpoint that stands in `out`, if it is one that the log with this head may replace."""
    if not (out / CHECKPOINT).exists():
        known = (
            TILE,
            VKEY,
            WITNESSES,
            COSIGNED,
            *(f".{name}." for name in (CHECKPOINT, VKEY, WITNESSES)),
        )  # with half-written ones
        if not all(p.name.startswith(known) for p in out.iterdir()):
            raise ConfigError(f"{out} holds something else than tiles: name a folder of its own", reason="NOT_TILES")
        return None
    try:
        old = verify_checkpoint(TileFolder(out).checkpoint(), key)
    except LogFault as e:
        raise LogFault(f"the tiles there are not of this log: {e}", reason="OTHER_LOG") from None
    if old.size > head.size:
        message = f"{old.size} entries were published, the log has {head.size}: it was cut back, or is an older copy"
        raise LogFault(message, reason="ROLLED_BACK")
    if old.size == head.size and old.root != head.root:
        raise LogFault("the same size was published with another root: keep both as evidence", reason="FORKED")
    return old


def _write_keys(out: Path, key: VerifierKey, witnesses: Sequence[str] | None) -> None:
    _write(out / VKEY, f"{key}\n".encode())
    if witnesses is not None or not (out / WITNESSES).exists():
        _write(out / WITNESSES, "".join(f"{w}\n" for w in witnesses or ()).encode())


def _write(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        files.replace(path, data, mode=files.PRIVATE)


def _remove_partials(out: Path, old: int, new: int) -> None:
    """Those of the tiles that have become full; a client of an older checkpoint reads the full one."""
    for name, level in [(ENTRIES, 0), *((str(n), n) for n in range(64 // HEIGHT))]:
        number, width = divmod(old >> (HEIGHT * level), WIDTH)
        if width and (new >> (HEIGHT * level)) // WIDTH > number:
            shutil.rmtree(out / f"{tile_path(name, number)}.p", ignore_errors=True)


def _draft(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)  # `parents=True` would let others read those
        folder.mkdir(mode=0o700, exist_ok=True)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """`out` is a folder that no other process writes tiles to."""
    files.make_folder(out)
    fd = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"another process writes tiles to {out}", reason="TILES_IN_USE") from None
        try:
            yield
        except OSError as e:
            raise ConfigError(f"cannot write tiles to {out}: {e.strerror}", reason="FILE_UNWRITABLE") from None
    finally:
        os.close(fd)
