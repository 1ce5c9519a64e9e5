"""Reconciliation: every single change of either side's log is found, and no honest mishap is taken for one."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.note import Checkpoint
from audit.reconcile import Kind, Reconciliation, reconcile
from cli.audit import audit
from comity.errors import InvalidInput
from comity.outcome import OutcomeKind
from identity.directory import Directory, LogKey
from tests.unit.audit.exchanges import BROKER, NODES, Book, Day
from tests.unit.audit.mutations import Mutation, mutations
from tests.unit.identity.world import World

SLICE = 150
SEED = 20_300_501


@dataclass(slots=True)
class Written:
    """The day's three logs on disk; `forged` puts another in the place of one of them."""

    folder: Path
    day: Day
    paths: dict[str, Path]

    @classmethod
    def make(cls, folder: Path, day: Day) -> Written:
        paths = {name: book.write(folder / name) for name, book in books(day).items()}
        return cls(folder, day, paths)

    def reconcile(self, **replaced: Path) -> Reconciliation:
        at = self.paths | replaced
        return reconcile(at["broker"], [at[node] for node in NODES])

    def forged(self, name: str, commits: list[list[dict[str, Any]]]) -> Reconciliation:
        forged = books(self.day)[name].forged(commits).write(self.folder / "forged")
        try:
            return self.reconcile(**{name: forged})
        finally:
            shutil.rmtree(forged)


def books(day: Day) -> dict[str, Book]:
    return {"broker": day.broker, **day.nodes}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written.make(tmp_path_factory.mktemp("day"), Day.eventful())


def all_mutations(day: Day) -> Iterator[tuple[str, Mutation]]:
    for name, book in books(day).items():
        for mutation in mutations(book):
            yield name, mutation


def is_beyond_two_logs(written: Written, result: Reconciliation, name: str, mutation: Mutation) -> bool:
    """True for the two changes that only a witness shows: when an entry under no shared head was written, and, of a
    node's outcome there, the reason that the broker is never told."""
    book = books(written.day)[name]
    if mutation.index < book.tree.size - result.unpinned[book.origin]:
        return False
    return mutation.what.startswith("back-dating") or (
        name != "broker" and "edit reason_code of outcome" in mutation.what
    )


def missed(written: Written, chosen: list[tuple[str, Mutation]]) -> list[str]:
    out = []
    for name, mutation in chosen:
        result = written.forged(name, mutation.commits)
        if not result.discrepancies and not is_beyond_two_logs(written, result, name, mutation):
            out.append(f"{name}: {mutation.what}")
    return out


def test_a_day_of_mishaps_has_no_discrepancy(written: Written) -> None:
    result = written.reconcile()
    assert result.discrepancies == []
    assert (result.exchanges, result.lost, result.cut_off, len(result.skewed), result.elsewhere) == (18, 3, 3, 1, 0)
    assert result.unpinned == {"broker.example/log": 4, "alder-1.example/log": 1, "brazos-1.example/log": 1}


def test_of_every_single_change_a_seeded_slice_is_found(written: Written) -> None:
    every = list(all_mutations(written.day))
    assert len(every) > 1_500
    assert missed(written, random.Random(SEED).sample(every, SLICE)) == []


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_every_single_change_at_either_end_is_found(written: Written) -> None:
    assert missed(written, list(all_mutations(written.day))) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_log_cut_back_by_any_number_of_commits_is_found(written: Written, seed: int) -> None:
    name = random.Random(seed).choice(sorted(books(written.day)))
    commits = books(written.day)[name].commits
    for cut in range(1, len(commits)):
        assert written.forged(name, commits[:-cut]).discrepancies, f"{name} without its last {cut}"


def test_the_whole_of_a_log_signed_with_another_key_is_found(written: Written) -> None:
    book = Book(written.day.broker.origin, key=Ed25519PrivateKey.generate())
    for values in written.day.broker.commits:
        book.commit(deepcopy(values))
    path = book.write(written.folder / "rekeyed")
    kinds = {d.kind for d in written.reconcile(broker=path).discrepancies}
    shutil.rmtree(path)
    assert kinds == {Kind.RECEIPT_NOT_HONOURED}


Change = Callable[[list[list[dict[str, Any]]]], None]


def last(commits: list[list[dict[str, Any]]], kind: str, **wanted: Any) -> dict[str, Any]:
    """The newest entry of that type with those values."""
    fits = [v for values in commits for v in values if v["type"] == kind and all(v[k] == w for k, w in wanted.items())]
    return fits[-1]


def drop(commits: list[list[dict[str, Any]]], kind: str, **wanted: Any) -> None:
    gone = last(commits, kind, **wanted)
    for values in commits:
        values[:] = [v for v in values if v is not gone]


def drop_answer(commits: list[list[dict[str, Any]]]) -> None:
    for kind in ("outcome", "receipt"):
        drop(commits, kind, node="alder-1")


def exchange_gone(commits: list[list[dict[str, Any]]]) -> None:
    del commits[-2:]


def swap_decisions(commits: list[list[dict[str, Any]]]) -> None:
    values = next(v for v in reversed(commits) if v[0]["type"] == "inquiry")
    values[1], values[2] = values[2], values[1]


def back_date(commits: list[list[dict[str, Any]]]) -> None:
    at = commits[-3][0]["at"]
    for value in commits[-2]:
        value["at"] = at


# What was done, to which log, and the class under which it is named, with its fields.
NAMED: dict[str, tuple[str, Change, Kind, tuple[str, ...]]] = {
    "the node hides an exchange": ("brazos-1", exchange_gone, Kind.MISSING_AT_NODE, ()),
    "the node hides its answer": (
        "alder-1", lambda c: drop(c, "outcome", outcome="no_match"), Kind.MISSING_AT_NODE, (),
    ),
    "the node hides the broker's receipt": ("alder-1", lambda c: drop(c, "receipt"), Kind.MISSING_AT_NODE, ()),
    "the broker hides an outcome": (
        "broker", lambda c: drop(c, "outcome", outcome="refused", reason_code="DENIED_BY_RULE"), Kind.UNANSWERED, (),
    ),
    "the broker hides a node's answer": (
        "broker", drop_answer,
        Kind.MISSING_AT_BROKER, (),
    ),
    "the broker hides a node's receipt": ("broker", lambda c: drop(c, "receipt"), Kind.MISSING_AT_BROKER, ()),
    "the broker hides what a node rejected": (
        "alder-1", lambda c: drop(c, "rejected"), Kind.MISSING_AT_NODE, (),
    ),
    "the broker turns no match into a match": (
        "broker", lambda c: last(c, "outcome", outcome="no_match").update(outcome="match", count=1),
        Kind.OUTCOME_DIFFERS, ("outcome", "count"),
    ),
    "the broker turns an answer into none": (
        "broker", lambda c: last(c, "outcome", outcome="no_match").update(outcome="timed_out", reason_code="DEADLINE"),
        Kind.OUTCOME_DIFFERS, ("outcome",),
    ),
    "the node lowers its count": (
        "brazos-1", lambda c: last(c, "outcome", outcome="match").update(count=1), Kind.OUTCOME_DIFFERS, ("count",),
    ),
    "the broker alters a decision": (
        "broker", lambda c: last(c, "decision", effect="permit", node="alder-1").update(rules=["node:X"]),
        Kind.FIELD_DIFFERS, ("rules",),
    ),
    "the broker says it was only a preview": (
        "broker", lambda c: next(v for v in c if v[0]["type"] == "inquiry")[0].update(preview=True),
        Kind.FIELD_DIFFERS, ("preview",),
    ),
    "the node alters the requester's role": (
        "alder-1", lambda c: last(c, "inquiry")["requester"].update(role="chief"), Kind.FIELD_DIFFERS, ("role",),
    ),
    "the broker changes the order of decisions": ("broker", swap_decisions, Kind.ORDER_DIFFERS, ()),
    "the node dates an exchange back": ("brazos-1", back_date, Kind.BACKDATED, ()),
    "the broker alters the leaf hash of a receipt": (
        "broker", lambda c: last(c, "receipt").update(leaf_hash="ab" * 32), Kind.RECEIPT_NOT_HONOURED, (),
    ),
    "the node drops what concerns nobody": (
        "alder-1", lambda c: drop(c, "start"), Kind.RECEIPT_NOT_HONOURED, (),
    ),
    "an entry out of form": (
        "broker", lambda c: last(c, "policy").update(version=-1), Kind.LOG_FAULT, (),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "change", "kind", "fields"), NAMED.values(), ids=NAMED)
def test_what_was_done_is_named(
    written: Written, name: str, change: Change, kind: Kind, fields: tuple[str, ...]
) -> None:
    commits = deepcopy(books(written.day)[name].commits)
    change(commits)
    found = [d for d in written.forged(name, commits).discrepancies if d.kind is kind]
    assert found, f"no {kind}"
    assert any(d.fields == fields for d in found)
    assert all(d.broker_index >= 0 or d.node_index >= 0 for d in found if kind is not Kind.LOG_FAULT)


def test_one_change_in_a_long_log_is_not_reported_once_for_every_later_receipt(tmp_path: Path) -> None:
    day = Day()
    day.start()
    for node in NODES:
        day.start(node)
    for _ in range(40):
        day.search(OutcomeKind.NO_MATCH, OutcomeKind.MATCH)
    written = Written.make(tmp_path, day)
    commits = deepcopy(day.broker.commits)
    last(commits, "start").update(reason="altered")
    found = written.forged("broker", commits).discrepancies
    assert [(d.kind, d.count) for d in found] == [(Kind.RECEIPT_NOT_HONOURED, 40)] * 2
    del commits[0]
    assert len(written.forged("broker", commits).discrepancies) <= 4


def test_a_constant_difference_of_clocks_is_no_back_dating_whatever_it_is(tmp_path: Path) -> None:
    day = Day()
    for node, book in day.nodes.items():
        book.skew *= -9
        day.start(node)
    day.start()
    for _ in range(3):
        day.search(OutcomeKind.NO_MATCH, OutcomeKind.MATCH)
    assert Written.make(tmp_path, day).reconcile().discrepancies == []


def test_what_an_inquiry_of_another_broker_left_at_a_node_is_counted_apart(tmp_path: Path, written: Written) -> None:
    day = Day()
    day.broker = Book("second.example/log")
    for node in NODES:
        day.start(node)
    day.search(OutcomeKind.NO_MATCH, OutcomeKind.MATCH)
    other = Written.make(tmp_path, day)
    empty = Day()
    empty.start()
    result = other.reconcile(broker=empty.broker.write(tmp_path / "idle"))
    assert (result.discrepancies, result.elsewhere) == ([], 2)


def test_what_a_node_rejected_and_the_broker_never_recorded_is_found(tmp_path: Path, written: Written) -> None:
    day = written.day
    commits = deepcopy(day.nodes["alder-1"].commits)
    rejected = last(commits, "rejected") | {"payload_hash": "cd" * 32, "at": commits[-1][0]["at"]}
    commits.append([rejected])
    found = written.forged("alder-1", commits).discrepancies
    assert [(d.kind, d.node_index) for d in found] == [(Kind.MISSING_AT_BROKER, day.nodes["alder-1"].tree.size)]
    commits[-1] = [rejected | {"received_from": BROKER.replace("b1", "b2")}]
    result = written.forged("alder-1", commits)
    assert (result.discrepancies, result.elsewhere) == ([], 1)


def test_heads_of_the_other_log_that_entries_cite_must_be_its_own(written: Written) -> None:
    commits, broker = deepcopy(written.day.nodes["alder-1"].commits), written.day.broker

    def cited(root: bytes) -> dict[str, Any]:
        head = Checkpoint(origin=broker.origin, size=broker.tree.size, root=root)
        note = head.sign(broker.key).decode()
        return {"origin": broker.origin, "size": broker.tree.size, "root": root.hex(), "note": note}

    commits[-1][0]["peers"] = [cited(broker.tree.root())]
    result = written.forged("alder-1", commits)
    assert (result.discrepancies, result.unpinned[broker.origin]) == ([], 0)
    commits[-1][0]["peers"] = [cited(b"another root, as long as a root.")]
    assert [d.kind for d in written.forged("alder-1", commits).discrepancies] == [Kind.RECEIPT_NOT_HONOURED]


def test_a_log_at_fault_is_reported_and_the_others_are_compared(written: Written) -> None:
    commits = deepcopy(written.day.nodes["alder-1"].commits)
    commits[3][0]["at"] = "2001-01-01T00:00:00.000Z"
    result = written.forged("alder-1", commits)
    assert [d.kind for d in result.discrepancies] == [Kind.LOG_FAULT]
    assert result.exchanges == 9


def test_two_logs_of_one_node_and_a_log_of_no_node_are_wrong_usage(written: Written, tmp_path: Path) -> None:
    at = written.paths
    second = Day()
    second.broker = Book("second.example/log")
    second.start()
    broker, alder = at["broker"], at["alder-1"]
    for (first, *nodes), reason in (
        ([broker, alder, alder], "SAME_LOG"),
        ([broker, broker], "SAME_LOG"),
        ([alder, broker], "NOT_A_BROKER"),
        ([broker, second.broker.write(tmp_path / "second")], "NOT_A_NODE"),
        ([broker, Book("empty.example/log").write(tmp_path / "empty")], "NOT_A_NODE"),
    ):
        with pytest.raises(InvalidInput) as refused:
            reconcile(first, nodes)
        assert refused.value.reason == reason


def test_a_directory_pins_the_keys_and_names_the_programs(tmp_path: Path) -> None:
    world = World.make(tmp_path)
    day = Day()
    day.start()
    for node in NODES:
        day.start(node)
    written = Written.make(_made(tmp_path / "logs"), day)
    keys = [
        LogKey(
            origin=book.origin,
            key=(book.key if name != "alder-1" else Ed25519PrivateKey.generate()).public_key(),
            program="broker" if name == "broker" else "node",
            id="b1" if name == "broker" else name,
        )
        for name, book in books(day).items()
    ]
    directory = Directory.parse(world.signed_directory(logs=keys), world.federation.certificate)
    at = written.paths
    result = reconcile(at["broker"], [at[n] for n in NODES], directory=directory)
    assert [(d.kind, "alder-1" in d.sentence) for d in result.discrepancies] == [(Kind.LOG_FAULT, True)]
    assert not any("log.vkey" in w for w in result.warnings)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "220"}).invoke(audit, ["reconcile", *map(str, arguments)])


def test_the_command_says_that_the_logs_agree(written: Written) -> None:
    at = written.paths
    result = run(at["broker"], at["alder-1"], at["brazos-1"])
    assert result.exit_code == 0
    assert "18 exchanges compared: 0 discrepancies." in result.output
    (summary,) = [json.loads(line) for line in run(at["broker"], at["alder-1"], "--json").output.splitlines()]
    assert (summary["ok"], summary["exchanges"], summary["elsewhere"]) == (True, 9, 9)


def test_the_command_names_each_discrepancy_and_exits_1(written: Written, tmp_path: Path) -> None:
    commits = deepcopy(written.day.broker.commits)
    last(commits, "outcome", outcome="no_match").update(outcome="match", count=1)
    forged = written.day.broker.forged(commits).write(tmp_path / "forged")
    at = written.paths
    result = run(forged, at["alder-1"], at["brazos-1"])
    assert result.exit_code == 1
    assert "OUTCOME_DIFFERS alder-1" in result.output
    lines = [json.loads(x) for x in run(forged, at["alder-1"], at["brazos-1"], "--json").output.splitlines()]
    assert [(x["kind"], x["fields"]) for x in lines[:-1]] == [("OUTCOME_DIFFERS", ["outcome", "count"])]
    assert lines[-1]["ok"] is False


def test_the_command_without_a_nodes_log_is_wrong_usage(written: Written) -> None:
    assert run(written.paths["broker"]).exit_code == 2
