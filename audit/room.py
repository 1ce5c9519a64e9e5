"""Room in the log's write-ahead file, made before it is needed, so that a commit need not make the file longer.

Syncing bytes written over others costs a file system far less than syncing a file that has grown, whose new length is a
transaction of its own journal. Room is zeros behind the newest commit. SQLite reads them as a frame that was never
finished: recovery ends there, as at a torn commit. The next commit's sync takes them along; nothing needs them before.

Source: SQLite database file format, section 4.1: a frame is valid only with the header's salts and its own checksum.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

MOST_BYTES = 4 * 1024 * 1024  # at once: some hundred commits of one entry
_PIECE_BYTES = 16 * 1024  # a long write is kept in large pages, which cost each small write into them more
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Room:
    """What is kept free in one write-ahead file: as much again as it holds, at most MOST_BYTES more.

    For the one who writes that file, which SQLite keeps as long as that one's connection is open.
    """

    def __init__(self, wal: Path) -> None:
        self._wal, self._file, self._size = wal, -1, 0

    def make(self) -> None:
        """More room stands behind the file's end if it is longer than it was left. Call it between two commits.

        A full disk is left to the commit, which may yet fit.

        Raises:
            OSError: the disk failed in another way, or the file is a link.
        """
        if self._file < 0:
            try:
                self._file = os.open(self._wal, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:  # SQLite makes it with the first commit
                return
            self._size = self._left()
        size = os.fstat(self._file).st_size
        if size == self._size:
            return
        self._size = size
        end = size + min(size, MOST_BYTES)
        try:
            while self._size < end:
                piece = bytes(min(_PIECE_BYTES, end - self._size))
                self._size += os.pwrite(self._file, piece, self._size)
        except OSError as e:
            if e.errno not in _NO_ROOM:
                raise

    def _left(self) -> int:
        """The file's length if room that was made before is at its end, else 0.

        A program that is killed and started over and over would otherwise make more each time, without end.
        """
        size = os.fstat(self._file).st_size
        # A frame is shorter than a piece, and the number of its page, in its head, is not zero.
        end = os.pread(self._file, _PIECE_BYTES, max(0, size - _PIECE_BYTES))
        return size if len(end) == end.count(0) == _PIECE_BYTES else 0

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
