"""Which skeletons a sealed part may hold, in memory: most parts are passed over without a page of theirs being read."""

from __future__ import annotations

import hashlib
import itertools
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from node.store.interface import StoreError

BITS_EACH = 12  # one skeleton in a hundred that is not there looks as if it were
# Kept in the part, with a digest of its own: a flipped bit would hide a row, where elsewhere it spoils one.
TABLE = "CREATE TABLE sieve(words BLOB NOT NULL, sha256 BLOB NOT NULL)"
PUT = "INSERT INTO sieve(words, sha256) VALUES (?, ?)"
GET = "SELECT words, sha256 FROM sieve"
_SPREAD = 0x9E3779B97F4A7C15  # Source: Knuth, The Art of Computer Programming, vol. 3, 6.4, multiplicative hashing
_LOW = 0xFFFF_FFFF
_PAIRS = [1 << (i & 63) | 1 << (i >> 6) for i in range(4096)]
Marked = Sequence[tuple[str, int, int]]


def marked(skeletons: Iterable[str]) -> Marked:
    """Each skeleton, in this order, with its place (32 bits) and its four bits of a word: the same for good."""
    return [
        (s, (mark := crc32(s.encode()) * _SPREAD) >> 32 & _LOW, _PAIRS[mark >> 8 & 4095] | _PAIRS[mark >> 20 & 4095])
        for s in skeletons
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sieve:
    """A Bloom filter of a part's skeletons in words of 64 bits: never a wrong no, seldom a wrong yes.

    Source: Putze, Sanders, Singler 2009, Cache-, Hash-, and Space-Efficient Bloom Filters, 3 (blocked).
    """

    words: array[int] = field(repr=False)

    @classmethod
    def parse(cls, words: object, sha256: object) -> Sieve:
        """The sieve of a part, as GET gives it.

        Raises:
            StoreError: STORE_CORRUPT.
        """
        if not isinstance(words, bytes) or not words or hashlib.sha256(words).digest() != sha256:
            raise StoreError("a part's list of skeletons is damaged", reason="STORE_CORRUPT")
        return cls(words=_native(array("Q", words)))

    def kept(self, of: Marked) -> list[str]:
        """Those that the part may hold, in their order; no row of any other is in it."""
        words, size = self.words, len(self.words)
        return [skel for skel, place, bits in of if words[place * size >> 32] & bits == bits]


def sieve_of(skeletons: Iterable[str], count: int) -> tuple[bytes, bytes]:
    """The values of PUT for a part with these skeletons, of which there are about `count`."""
    words = array("Q", bytes(8 * (count * BITS_EACH // 64 + 1)))
    size = len(words)
    rest = iter(skeletons)
    while some := marked(itertools.islice(rest, 10_000)):  # not all at once: a part may have millions
        for _, place, bits in some:
            words[place * size >> 32] |= bits
    data = _native(words).tobytes()
    return data, hashlib.sha256(data).digest()


def _native(words: array[int]) -> array[int]:
    """Little-endian words from or to the file, whatever the machine has."""
    if sys.byteorder == "big":
        words.byteswap()
    return words
