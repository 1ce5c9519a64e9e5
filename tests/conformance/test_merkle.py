"""The proofs, against the public vectors of transparency-dev/merkle: `make conformance VECTORS=DIR`."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from audit.proof import verify_consistency, verify_inclusion
from comity.errors import LogFault

EXPECTED = 196


def vectors() -> list[Path]:
    """Every vector of the folder in the environment variable VECTORS; none if it is not set."""
    folder = os.environ.get("VECTORS")
    return sorted(Path(folder).rglob("*.json")) if folder else []


def check(vector: dict[str, Any]) -> None:
    proof = [base64.b64decode(h) for h in vector["proof"] or ()]
    if "leafIdx" in vector:
        root, leaf = (base64.b64decode(vector[name] or "") for name in ("root", "leafHash"))
        verify_inclusion(vector["leafIdx"], vector["treeSize"], leaf, proof, root)
    else:
        old, new = (base64.b64decode(vector[name] or "") for name in ("root1", "root2"))
        verify_consistency(vector["size1"], vector["size2"], old, new, proof)


def test_the_folder_holds_the_vectors_whole() -> None:
    found = vectors()
    kinds = ["leafIdx" in json.loads(path.read_bytes()) for path in found]
    assert (len(found), kinds.count(True)) == (EXPECTED, EXPECTED // 2), "VECTORS=DIR must hold all of them"


@pytest.mark.parametrize("path", vectors(), ids=lambda p: "/".join(p.parts[-3:]).removesuffix(".json"))
def test_a_proof_is_taken_or_refused_as_the_vector_says(path: Path) -> None:
    vector = json.loads(path.read_bytes())
    if not vector["wantErr"]:
        check(vector)
        return
    with pytest.raises(LogFault) as refused:
        check(vector)
    assert refused.value.reason in ("BAD_PROOF", "WRONG_ROOT")
