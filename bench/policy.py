"""Policy decisions: this engine against stock Casbin, Cedar in batches, and stock Casbin once a class, in turns."""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cedar import Asked, Cedar
from bench.frame import Row, against, bounded, machine, median, percentile, show
from bench.policy_world import DAY, Scene
from broker.idle import CHECKED_AT_ONCE, COLLECT_AFTER
from comity.decision import Pep
from policies.ahead import Ahead
from policies.conditions import Facts
from policies.decide import Decider, Question
from policies.engine import Policy
from policies.matrix import Matrix
from policies.parties import Party
from policies.reach import Reach
from policies.setting import Setting
from policies.vocabulary import node_word

FEDERATION_RULES, OWN_RULES = 40, 20
STOCK_SAMPLE = 12  # of the nodes, scaled up: stock Casbin at all of them would take minutes a search
PEER_ROUNDS = 5
CASBIN, CEDAR = "stock Casbin, enforce() at every node", "cedarpy, one batch a policy, parsed before"
PER_CLASS = "stock Casbin once a class: this engine without memory, all rules shown"


def cpu_ms(work: Callable[[], object]) -> float:
    """Milliseconds of this thread's processor time."""
    begin = time.thread_time()
    work()
    return (time.thread_time() - begin) * 1000


def memory_mb() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One federation and its policies: `own[i]` decides at every node whose number leaves `i`."""

    scene: Scene
    federation_policy: Policy
    own: Sequence[Policy]

    @classmethod
    def make(cls, nodes: int, distinct: int, federation_rules: int, own_rules: int) -> Setup:
        """`distinct` own policies among the nodes."""
        scene = Scene.make(nodes)
        federation_policy = scene.policy(federation_rules)
        return cls(
            scene=scene, federation_policy=federation_policy, own=[scene.policy(own_rules) for _ in range(distinct)]
        )

    def again(self) -> Setup:
        """The same policies compiled anew, whose memory is another."""
        words = self.scene.words
        top, *own = (Policy(p.rules, words, lambda _: None) for p in (self.federation_policy, *self.own))
        return Setup(scene=self.scene, federation_policy=top, own=own)

    def without_memory(self, question: Question) -> float:
        """What a search takes when every class is decided by Casbin in it."""
        for policy in (self.federation_policy, *self.own):
            policy._forget()
        decider = Decider(self.scene.federation, self.federation_policy, Pep.BROKER, lambda: "d")
        targets = self.targets
        return cpu_ms(lambda: decider.decide(question, targets))

    @property
    def targets(self) -> list[tuple[str, Policy | None]]:
        """Every node with its policy."""
        return [(n, self.own[i % len(self.own)]) for i, n in enumerate(self.scene.federation.nodes)]

    def fresh(self) -> Decider:
        """A decider that knows no ruling, over the policies' memory as it is."""
        return self.scene.decider(self.federation_policy)

    def requests(self, question: Question) -> dict[Policy, list[Asked]]:
        """The node layer as other engines are asked: the requester alone, so fewer decisions than ours."""
        federation = self.scene.federation
        states = {a.id: a.state for a in federation.agencies.values()}
        party = Party(question, federation.agencies[question.requester_agency], federation, states, on_behalf=False)
        out: dict[Policy, list[Asked]] = {}
        for node, policy in self.targets:
            assert policy is not None
            known = party.facts(federation.nodes[node].agency)
            facts = Facts(true=known.true, left=frozenset(), lookback_days=known.lookback_days)
            asked = (question.requester_agency, question.role, question.purpose, str(question.act), facts, node)
            out.setdefault(policy, []).append(asked)
        return out


def search_rows(
    name: str, setup: Setup, *, searches: int, seconds: float, most_p99_ms: float | None, most_cedar: float | None
) -> list[Row]:
    """One search at all nodes, warm, in turns with the peers. What is drawn for Casbin to check is checked between
    searches, as the broker does beside them, and not counted; what there is no time for waits, as it does there.
    """
    targets, decider, cold = setup.targets, setup.fresh(), setup.again()
    gc.collect()
    gc.freeze()  # as the broker does once it serves, before it is asked anything
    gc.set_threshold(*COLLECT_AFTER)
    before_ahead = memory_mb()
    ahead = Ahead(decider)
    ahead_ms = cpu_ms(lambda: ahead.work(targets, float("inf")))
    held = memory_mb() - before_ahead
    warming = _searches(setup, decider, searches, seconds)
    cedars = {p: Cedar(p.rules, setup.scene.words) for p in setup.own}
    ours, stock, cedar, once = list[float](), list[float](), list[float](), list[float]()
    rounds = PEER_ROUNDS if len(targets) * len(setup.own[0].rules) <= 1_000_000 else 1  # a peer's takes minutes
    for _ in range(rounds):
        ours += _searches(setup, decider, searches // rounds, seconds / rounds)
        asked = setup.requests(setup.scene.question())
        stock.append(_stock_ms(asked, len(targets)))
        cedar.append(cpu_ms(lambda a=asked: [cedars[p].decide(x) for p, x in a.items()]))  # type: ignore[misc]
        once.append(cold.without_memory(setup.scene.question()))
    gc.unfreeze()
    p50, p99 = median(ours), percentile(ours, 99)
    assert decider.shadow is not None
    return [
        against(f"{name}: p50", p50, "ms CPU", CASBIN, median(stock)),
        against(f"{name}: p50", p50, "ms CPU", CEDAR, median(cedar), most=most_cedar),
        against(f"{name}: p50", p50, "ms CPU", PER_CLASS, median(once)),
        bounded(f"{name}: p99 of {len(ours)}", p99, "ms CPU", most_p99_ms)
        if most_p99_ms is not None
        else Row(metric=f"{name}: p99 of {len(ours)}", value=p99, unit="ms CPU"),
        Row(metric=f"{name}: the first search after the work in advance", value=warming[0], unit="ms CPU"),
        Row(metric=f"{name}: {ahead.decided:,} classes decided in advance", value=ahead_ms / 1000, unit="s CPU"),
        Row(metric=f"{name}: memory of that", value=held, unit="MB"),
        Row(metric=f"{name}: searches before", value=float(len(warming)), unit="searches"),
        Row(metric=f"{name}: answers checked again, different", value=float(decider.shadow.differed), unit="answers"),
    ]


def _searches(setup: Setup, decider: Decider, most: int, seconds: float) -> list[float]:
    targets, out, until = setup.targets, list[float](), time.monotonic() + seconds
    assert decider.shadow is not None
    while len(out) < 3 or (len(out) < most and time.monotonic() < until):
        question = setup.scene.question()
        out.append(cpu_ms(lambda q=question: decider.decide(q, targets)))  # type: ignore[misc]
        while decider.shadow.waiting and time.monotonic() < until:
            decider.shadow.check(CHECKED_AT_ONCE)
    return out


def _stock_ms(asked: dict[Policy, list[Asked]], nodes: int) -> float:
    flat = [(p, a) for p, batch in asked.items() for a in batch][:: max(1, nodes // STOCK_SAMPLE)]

    def work() -> None:
        for policy, (who, role, purpose, act, facts, node) in flat:
            policy._stock.decide(node_word(node), who, role, purpose, act, facts)

    return cpu_ms(work) * nodes / len(flat)


def small_rows() -> list[Row]:
    """One class, one bundle, one reload."""
    setup = Setup.make(1000, 12, FEDERATION_RULES, OWN_RULES)
    policy, question = setup.own[0], setup.scene.question()
    decider = setup.fresh()
    for _ in range(300):
        decider.decide(setup.scene.question(), setup.targets)
        if decider.shadow:
            decider.shadow.check()
    seen = max((s for s in policy._seen.values() if s.nodes), key=lambda s: s.hits)
    asked, (place, node) = policy.asked(seen.wanted), next(iter(seen.nodes.items()))
    many = range(200_000)
    in_class = min(cpu_ms(lambda: [policy.verdict_at(asked, place, node) for _ in many]) for _ in range(5))
    whole = min(cpu_ms(lambda: decider.decide(question, setup.targets)) for _ in range(50))
    text = setup.scene.text(OWN_RULES)
    compiling = [cpu_ms(lambda: Policy.compile(text, setup.scene.words)) for _ in range(50)]
    rate, decisions = len(many) / in_class * 1000, len(setup.targets) / whole * 1000
    new = Policy.compile(text, setup.scene.words)
    classes = list[int]()
    warming = cpu_ms(lambda: classes.append(new.warm(policy)))
    return [
        Row(
            metric="verdicts inside a class",
            value=rate,
            unit="/s/core",
            target=">= 1,000,000",
            met=rate >= 1_000_000,
        ),
        Row(metric="whole decisions of a known search, each an object of its own", value=decisions, unit="/s/core"),
        bounded(f"one bundle of {OWN_RULES} rules compiled, p50", median(compiling), "ms CPU", 5),
        Row(metric=f"a new version warmed with {classes[0]} busy classes of the old", value=warming, unit="ms CPU"),
    ]


def matrix_rows() -> list[Row]:
    """Who sees whose data: everything that `comity policy matrix` shows of a large federation, before it is printed."""
    out = []
    for distinct in (12, 112):
        setup = Setup.make(1_000, distinct, FEDERATION_RULES, OWN_RULES)
        setting = Setting(
            federation=setup.scene.federation,
            vocabulary=setup.scene.words,
            federation_policy=setup.federation_policy,
            node_policies=dict(setup.targets),
        )
        agencies = tuple(setup.scene.federation.agencies)[:400]
        taken, groups = list[float](), 0
        for _ in range(3):
            found = list[int]()

            def work(found: list[int] = found, setting: Setting = setting) -> None:
                found.append(len(Reach(Matrix(setting, DAY), agencies=agencies).groups()))  # noqa: B023

            taken.append(cpu_ms(work) / 1000)
            groups = found[0]
        name = f"matrix of 1,000 nodes x 400 agencies x all purposes, {distinct} policies, {groups:,} sorts of cells"
        out.append(bounded(name, median(taken), "s CPU", 1))
    return out


SETTINGS = ((80, 100), (1_000, 100), (1_000, 1_000))
LONG = ((10_000, 1_000), (1_000, 10_000))
LONG_SECONDS = 20.0  # Casbin takes 70 ms for each check there: of those that wait as many are made as there is time for
DISTINCT = ((80, 12, None), (1_000, 12, 5.0), (1_000, 112, 5.0), (1_000, 1_000, 20.0))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=int, default=1_000, help="to warm, and then to measure, each setting")
    parser.add_argument("--seconds", type=float, default=60.0, help="at most for either")
    parser.add_argument("--only", default="", help="settings whose name holds this")
    parser.add_argument("--long", action="store_true", help="also 10,000 nodes, and 10,000 rules: minutes more")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    on = machine()
    rows = small_rows() if options.only in "small" else []
    rows += matrix_rows() if options.only in "matrix" else []
    for nodes, rules in SETTINGS + (LONG if options.long else ()):
        name = f"{nodes:,} nodes x {rules:,} rules, 1 policy"
        if options.only in name:
            print(name, flush=True)
            seconds = options.seconds if (nodes, rules) in SETTINGS else min(options.seconds, LONG_SECONDS)
            asked = {"searches": options.searches, "seconds": seconds}
            target = 0.01 if (nodes, rules) == (1_000, 1_000) else None
            rows += search_rows(name, Setup.make(nodes, 1, 1, rules), **asked, most_p99_ms=None, most_cedar=target)
    for nodes, distinct, most in DISTINCT:
        name = f"{nodes:,} nodes, {FEDERATION_RULES} + {OWN_RULES} rules, {distinct:,} policies"
        if options.only in name:
            print(name, flush=True)
            setup = Setup.make(nodes, distinct, FEDERATION_RULES, OWN_RULES)
            asked = {"searches": options.searches, "seconds": options.seconds}
            rows += search_rows(name, setup, **asked, most_p99_ms=most, most_cedar=None)
    show("policy", on, rows, as_json=options.json)


if __name__ == "__main__":
    main()
