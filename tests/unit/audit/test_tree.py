"""The tree, against the roots that Certificate Transparency publishes."""

from __future__ import annotations

import pytest

from audit.tree import EMPTY_ROOT, Tree, leaf_hash

LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(9))
def test_the_root_is_the_one_that_certificate_transparency_publishes(size: int) -> None:
    tree = Tree(leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES[:size])
    assert tree.size == size
    assert tree.root().hex() == ROOTS[size]


def test_an_empty_tree_has_the_hash_of_nothing() -> None:
    assert Tree().root() == EMPTY_ROOT


def test_what_is_appended_to_a_copy_is_not_in_the_original() -> None:
    tree = Tree([leaf_hash(b"a")])
    before = tree.root()
    other = tree.copy()
    other.append(leaf_hash(b"b"))
    assert (tree.size, tree.root()) == (1, before)
    assert other.root() == Tree([leaf_hash(b"a"), leaf_hash(b"b")]).root()


@pytest.mark.parametrize("size", range(9))
@pytest.mark.parametrize("before", range(9))
def test_many_hashes_added_at_once_make_the_tree_that_they_make_one_by_one(before: int, size: int) -> None:
    leaves = [leaf_hash(bytes([n])) for n in range(before + size)]
    tree = Tree(leaves[:before])
    tree.extend(leaves[before:])
    assert (tree.size, tree.edge) == (before + size, Tree(leaves).edge)
