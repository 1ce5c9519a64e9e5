"""Inclusion and consistency proofs: made and verified for every leaf and size, and refused when anything is altered."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.hashes import WIDTH, Hashes
from audit.proof import consistency_proof, inclusion_proof, tree_root, verify_consistency, verify_inclusion
from audit.tree import EMPTY_ROOT, HASH_BYTES, Tree
from comity.errors import InvalidInput, LogFault

LEAVES = [sha256(b"%d" % i).digest() for i in range(2 * WIDTH**2 // 64 + 77)]
MOST = len(LEAVES)
SIZES = st.integers(1, 70) | st.integers(1, MOST) | st.sampled_from([WIDTH - 1, WIDTH, WIDTH + 1, 2 * WIDTH, MOST])


def root(size: int) -> bytes:
    return Tree(LEAVES[:size]).root()


def tiled(size: int) -> Hashes:
    """The hashes of the first `size` leaves, out of tiles made by the definition."""

    def read(level: int, number: int, width: int) -> bytes:
        span = WIDTH**level
        first = number * WIDTH
        return b"".join(root_of(LEAVES[(first + i) * span : (first + i + 1) * span]) for i in range(width))

    return Hashes(size, read, kept_tiles=2)


def root_of(leaves: list[bytes]) -> bytes:
    return leaves[0] if len(leaves) == 1 else Tree(leaves).root()


@pytest.mark.parametrize("size", range(1, 34))
def test_every_leaf_of_every_small_tree_is_proven(size: int) -> None:
    hashes = tiled(size)
    for index in range(size):
        verify_inclusion(index, size, LEAVES[index], inclusion_proof(index, size, hashes.subtree), root(size))


@pytest.mark.parametrize("size", range(1, 34))
def test_every_small_tree_is_proven_to_grow_from_every_smaller_one(size: int) -> None:
    hashes = tiled(size)
    for old in range(1, size + 1):
        verify_consistency(old, size, root(old), root(size), consistency_proof(old, size, hashes.subtree))


@given(SIZES, st.data())
def test_whatever_the_size_root_and_proofs_out_of_tiles_hold(size: int, data: st.DataObject) -> None:
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    subtree = tiled(size).subtree
    assert tree_root(size, subtree) == root(size)
    verify_inclusion(index, size, LEAVES[index], inclusion_proof(index, size, subtree), root(size))
    verify_consistency(old, size, root(old), root(size), consistency_proof(old, size, subtree))


@given(st.integers(2, 300), st.data())
def test_no_altered_inclusion_proof_holds(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = list(inclusion_proof(index, size, tiled(size).subtree))
    other = data.draw(st.integers(0, size - 1).filter(lambda i: i != index))
    at = data.draw(st.integers(0, len(proof) - 1))
    flipped = [*proof[:at], flip(data, proof[at]), *proof[at + 1 :]]
    altered: list[Callable[[], None]] = [
        lambda: verify_inclusion(index, size, LEAVES[index], flipped, root(size)),
        lambda: verify_inclusion(index, size, LEAVES[index], proof[:-1], root(size)),
        lambda: verify_inclusion(index, size, LEAVES[index], [*proof, proof[0]], root(size)),
        lambda: verify_inclusion(other, size, LEAVES[index], proof, root(size)),
        lambda: verify_inclusion(index, size, LEAVES[other], proof, root(size)),
        lambda: verify_inclusion(index, size, LEAVES[index], proof, root(size + 1)),
    ]
    with pytest.raises(LogFault) as refused:
        data.draw(st.sampled_from(altered))()
    assert refused.value.reason in ("BAD_PROOF", "WRONG_ROOT")


@given(st.integers(2, 300), st.data())
def test_no_altered_consistency_proof_holds(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size - 1))
    proof = list(consistency_proof(old, size, tiled(size).subtree))
    at = data.draw(st.integers(0, len(proof) - 1))
    flipped = [*proof[:at], flip(data, proof[at]), *proof[at + 1 :]]
    altered: list[Callable[[], None]] = [
        lambda: verify_consistency(old, size, root(old), root(size), flipped),
        lambda: verify_consistency(old, size, root(old), root(size), proof[:-1]),
        lambda: verify_consistency(old, size, root(old), root(size), [*proof, proof[0]]),
        lambda: verify_consistency(old, size, flip(data, root(old)), root(size), proof),
        lambda: verify_consistency(old, size, root(old), flip(data, root(size)), proof),
        lambda: verify_consistency(size, old, root(size), root(old), proof),
    ]
    with pytest.raises(LogFault) as refused:
        data.draw(st.sampled_from(altered))()
    assert refused.value.reason in ("BAD_PROOF", "WRONG_ROOT")


def flip(data: st.DataObject, value: bytes) -> bytes:
    at = data.draw(st.integers(0, len(value) - 1))
    return value[:at] + bytes([value[at] ^ data.draw(st.integers(1, 255))]) + value[at + 1 :]


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_a_leaf_that_the_tree_has_not_cannot_be_proven(index: int, size: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        inclusion_proof(index, size, tiled(size).subtree)
    assert refused.value.reason == "BAD_RANGE"
    with pytest.raises(LogFault) as faulty:
        verify_inclusion(index, size, LEAVES[0], [], LEAVES[0])
    assert faulty.value.reason == "BAD_PROOF"


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 3), (3, 2), (-1, 3)])
def test_nothing_is_said_of_an_empty_tree_or_backwards(old: int, new: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        consistency_proof(old, new, tiled(new).subtree)
    assert refused.value.reason == "BAD_RANGE"
    with pytest.raises(LogFault) as faulty:
        verify_consistency(old, new, EMPTY_ROOT, root(max(new, 1)), [])
    assert faulty.value.reason == "BAD_PROOF"


def test_a_tile_that_is_not_whole_makes_no_hash() -> None:
    with pytest.raises(LogFault) as refused:
        Hashes(5, lambda *_: bytes(4 * HASH_BYTES)).subtree(0, 0)
    assert refused.value.reason == "BAD_TILE"


@pytest.mark.parametrize(("level", "index"), [(0, 5), (0, -1), (2, 1), (3, 0)])
def test_a_subtree_that_is_not_complete_has_no_hash(level: int, index: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        tiled(5).subtree(level, index)
    assert refused.value.reason == "BAD_RANGE"
