"""Inclusion and consistency proofs: made from the roots of complete subtrees, verified from nothing but hashes.

Source: RFC 6962 section 2.1; verification as in RFC 9162 sections 2.1.3.2 and 2.1.4.2, with exactly as many hashes as
the sizes call for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hmac import compare_digest

from audit.tree import EMPTY_ROOT, HASH_BYTES, node_hash
from comity.errors import InvalidInput, LogFault

Subtree = Callable[[int, int], bytes]  # (level, index) -> root over the 2^level leaves from index * 2^level on
Proof = tuple[bytes, ...]


def tree_root(size: int, subtree: Subtree) -> bytes:
    """The root over the first `size` leaves."""
    return _range_root(0, size, subtree) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, subtree: Subtree) -> Proof:
    """The siblings from the leaf's own up to the root's child: that leaf `index` is in the tree of `size`.

    Raises:
        InvalidInput: the tree has no such leaf (BAD_RANGE).
    """
    if not 0 <= index < size:
        raise InvalidInput(f"a tree of {size} leaves has no leaf {index}", reason="BAD_RANGE")
    return _path(0, index, size, subtree)


def consistency_proof(old: int, new: int, subtree: Subtree) -> Proof:
    """That the tree of the first `old` leaves is what the tree of `new` leaves begins with; empty if they are equal.

    Raises:
        InvalidInput: not 0 < old <= new: nothing can be said of an empty tree (BAD_RANGE).
    """
    if not 0 < old <= new:
        raise InvalidInput(f"no proof leads from {old} leaves to {new}", reason="BAD_RANGE")
    if old == new:
        return ()
    level = (old & -old).bit_length() - 1
    index = (old - 1) >> level
    first = (subtree(level, index),) if index else ()
    return first + _path(level, index, new, subtree)


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Return if the leaf hash `leaf` stands at `index` in the tree of `size` leaves under `root`.

    Raises:
        LogFault: no such leaf, or not as many hashes as it takes (BAD_PROOF); they lead to another root (WRONG_ROOT).
    """
    if not 0 <= index < size:
        raise LogFault(f"a tree of {size} leaves has no leaf {index}", index=index, reason="BAD_PROOF")
    inner, border = _lengths(index, size)
    _check_shape([leaf, *proof], 1 + inner + border)
    found = _climb(leaf, proof[:inner], index)
    if not compare_digest(_from_left(found, proof[inner:]), root):
        raise LogFault("the proof leads to another root than the one signed", index=index, reason="WRONG_ROOT")


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Return if the tree of `new` leaves under `new_root` begins with the tree of `old` leaves under `old_root`.

    Raises:
        LogFault: sizes between which there is no proof, an empty tree among them, or not as many hashes as it takes
            (BAD_PROOF); another old or new root (WRONG_ROOT).
    """
    if not 0 < old <= new:
        raise LogFault(f"no proof leads from {old} leaves to {new}", reason="BAD_PROOF")
    if old == new:
        _check_shape(proof, 0)
        if not compare_digest(old_root, new_root):
            raise LogFault("one size with two roots", reason="WRONG_ROOT")
        return
    level = (old & -old).bit_length() - 1
    inner, border = _lengths(old - 1, new)
    inner -= level
    whole = old == 1 << level  # the old tree is one complete subtree: its root is known already
    _check_shape(proof, inner + border + (not whole))
    seed, rest = (old_root, proof) if whole else (proof[0], proof[1:])
    below, left = rest[:inner], rest[inner:]
    at = (old - 1) >> level
    found_old = _from_left(_from_left(seed, [h for i, h in enumerate(below) if at >> i & 1]), left)
    found_new = _from_left(_climb(seed, below, at), left)
    if not compare_digest(found_old, old_root) or not compare_digest(found_new, new_root):
        raise LogFault("the proof leads to another root than those signed", reason="WRONG_ROOT")


def _path(level: int, index: int, size: int, subtree: Subtree) -> Proof:
    """The siblings of a complete subtree, lowest first, in the tree of `size` leaves."""
    out: list[bytes] = []
    while index or (1 << level) < size:
        if index & 1:
            out.append(subtree(level, index - 1))
        elif (index + 1) << level < size:
            out.append(_range_root((index + 1) << level, min(size, (index + 2) << level), subtree))
        index >>= 1
        level += 1
    return tuple(out)


def _range_root(begin: int, end: int, subtree: Subtree) -> bytes:
    """The root over the leaves of [begin, end), where `begin` is a multiple of a power of two not below its length."""
    parts: list[bytes] = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        parts.append(subtree(level, begin >> level))
        begin += 1 << level
    root = parts[-1]
    for left in reversed(parts[:-1]):
        root = node_hash(left, root)
    return root


def _lengths(index: int, size: int) -> tuple[int, int]:
    """How many siblings lie below the point where the paths of leaf `index` and of the last leaf meet, and above."""
    inner = (index ^ (size - 1)).bit_length()
    return inner, (index >> inner).bit_count()


def _climb(seed: bytes, siblings: Sequence[bytes], index: int) -> bytes:
    for i, sibling in enumerate(siblings):
        seed = node_hash(sibling, seed) if index >> i & 1 else node_hash(seed, sibling)
    return seed


def _from_left(seed: bytes, siblings: Sequence[bytes]) -> bytes:
    for sibling in siblings:
        seed = node_hash(sibling, seed)
    return seed


def _check_shape(hashes: Sequence[bytes], count: int) -> None:
    if len(hashes) != count or any(len(h) != HASH_BYTES for h in hashes):
        raise LogFault("the proof has not the hashes that these sizes call for", reason="BAD_PROOF")
