"""Parts of Casbin that answered wrongly when they were tried are named nowhere in the product."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("comity", "policies", "audit", "identity", "broker", "node", "cli")
BANNED = {
    "FastEnforcer": "misses wildcard denies and drops g2 to g4",
    "save_policy": "an agency's display name became a rule that allows",
    "add_policy": "changes a policy while it decides",
    "load_policy": "changes a policy while it decides",
    "set_watcher": "one error in a callback ends its thread",
    "SyncedEnforcer": "reloads in place while it decides",
    "eval": "runs text as a program",
    "exec": "runs text as a program",
}


def names(source: str) -> set[str]:
    """Every name that is called, read or imported."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name):
                found.add(name)
            # Redis has a command of that name: its script is a constant of ours
            case ast.Attribute(attr=name) if name != "eval":
                found.add(name)
            case ast.ImportFrom(names=imported) | ast.Import(names=imported):
                found |= {part for i in imported for part in i.name.split(".")}
    return found


@functools.cache
def product() -> dict[str, set[str]]:
    """The names that each of the product's files uses."""
    files = [p for package in PACKAGES for p in (ROOT / package).rglob("*.py") if p.parent.name != "v1"]
    return {str(p): names(p.read_text(encoding="utf-8")) for p in files}


@pytest.mark.parametrize("banned", sorted(BANNED), ids=lambda b: f"{b}: {BANNED[b]}")
def test_what_answers_wrongly_is_not_used(banned: str) -> None:
    assert len(product()) > 100
    assert [path for path, used in product().items() if banned in used] == []


def test_a_use_of_it_would_be_found() -> None:
    assert names("import casbin\ncasbin.FastEnforcer().save_policy()") >= {"FastEnforcer", "save_policy"}
