"""What a signed directory does not hold yet, and which packs do not fit its words: told to whoever signed it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from comity.errors import ComityError
from comity.federation import Federation
from identity.directory import Directory
from policies.engine import compiled
from policies.packs import load_packs
from policies.vocabulary import Vocabulary

MOST_NAMED = 20


def lacking(directory: Directory, packs: Path) -> Iterator[str]:
    """One sentence for each thing that whoever takes this directory would stumble over. `packs`: the registry's own.

    None of them is a fault of the directory: a federation grows by one agency at a time.
    """
    federation = directory.federation
    owners = sorted({n.agency for n in federation.nodes.values()})
    logs = {(log.program, log.id) for log in directory.logs.values()}
    strangers = [a for a in federation.agencies if not directory.authorities_of(a)]
    unsigned = [a for a in owners if not directory.policy_keys_of(a)]
    unpinned = [n for n in federation.nodes if ("node", n) not in logs]
    for what, names in (
        ("no authority is pinned (--ca): nobody of it is accepted", strangers),
        ("no policy key is pinned (--policy-key): no policy of its nodes is accepted", unsigned),
        ("no key of its log is pinned (--log): no auditor believes that log", unpinned),
    ):
        if names:
            yield f"{_listed(names)}: {what}"
    if not any(program == "broker" for program, _ in logs):
        yield "no key of a broker's log is pinned (--log): nodes believe no broker"
    yield from _packs(federation, packs)


def left_out(directory: Directory, replaced: Directory | None) -> Iterator[str]:
    """One sentence for each thing in which `directory` goes back behind the one that it replaces, if any.

    A directory is signed whole: a fingerprint that is not named again is denied no more, and nobody would see it.
    """
    if replaced is None:
        return
    if directory.version <= replaced.version:
        yield f"version {replaced.version} was here: running programs take up a higher one alone (DIRECTORY_OLD)"
    dropped = sorted(replaced.denied - directory.denied)
    if dropped:
        yield f"{_listed(dropped)}: denied before and no more (--deny): accepted again until the certificate ends"


def _packs(federation: Federation, beside: Path) -> Iterator[str]:
    words = Vocabulary.of(federation)
    if not federation.presets:
        yield "federation.presets names no pack: no broker starts without one"
    named = {**dict.fromkeys(federation.presets), **{p: beside for n in federation.nodes.values() for p in n.presets}}
    for pack, folder in named.items():
        try:
            compiled(load_packs([pack], beside=folder), words)
        except ComityError as error:
            who = "no broker starts" if pack in federation.presets else "no bundle is made of it"
            yield f"pack {pack}: {who}: {error}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
