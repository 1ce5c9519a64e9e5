"""Two other judges of the same rules: stock Casbin, and Cedar, an engine of other makers. No difference is allowed."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from bench.cedar import Cedar
from bench.policy_world import Scene
from comity.errors import PolicyError
from comity.purpose import Act
from policies.conditions import FACTS, Facts
from policies.engine import Asked, Policy, Verdict
from policies.packs import PACKS, load_packs
from policies.seal import HEADER, seal
from tests.policy.requests import AGENCIES, NODES, WORDS

PACK_NAMES = sorted(p.stem for p in PACKS.glob("*.csv"))
SLICE, WHOLE = 6_000, 120_000
BATCH = 500
GROUPS = {c: sorted(getattr(WORDS, c).above) for c in ("node", "who", "role", "purpose")}


def rows(chance: random.Random, count: int) -> str:
    """Rows at random over every word, condition and effect there is; what the loader refuses is drawn again."""
    out = [f"R-0,any-node,any-agency,any-role,any-purpose,any-act,allow,{chance.choice(['always', 'case'])},-,r"]
    while len(out) < count:
        effect = chance.choice(("allow", "allow", "deny", "limit"))
        facts = chance.sample(sorted(FACTS), chance.choice((0, 1, 1, 2)))
        terms = [f if effect == "allow" or chance.random() < 0.5 else f"unless {f}" for f in facts]
        terms += [chance.choice(("lookback<=30", "lookback>7"))] if chance.random() < 0.3 else []
        cells = [f"R-{len(out)}", *(chance.choice(GROUPS[c]) for c in ("node", "who", "role", "purpose"))]
        cells += [chance.choice(("any-act", "any-act", *(a.value for a in Act))), effect, "&".join(terms) or "always"]
        row = ",".join([*cells, "advice" if effect == "limit" else "-", "r"])
        try:
            Policy.compile(seal(f"{HEADER}\n{row}\n"), WORDS)
        except PolicyError:  # an allow on what only the node knows
            continue
        out.append(row)
    return "\n".join(out)


def policies(chance: random.Random) -> list[Policy]:
    texts = [load_packs([name]) for name in PACK_NAMES] + [load_packs(PACK_NAMES)]
    texts += [seal(f"{HEADER}\n{rows(chance, n)}\n") for n in (3, 10, 30, 60)]
    return [Policy.compile(shuffled(t, chance), WORDS) for t in texts]


def shuffled(text: str, chance: random.Random) -> str:
    lines = [x for x in text.splitlines() if x != HEADER and not x.startswith("#")]
    chance.shuffle(lines)
    return seal("\n".join([HEADER, *lines]) + "\n")


def drawn(policy: Policy, chance: random.Random) -> tuple[Asked, str]:
    # few facts are true in practice, and many at once hide what each of them does
    share = chance.choice((0.1, 0.5, 0.9))
    known = Facts.parse({f: chance.random() < share for f in FACTS}, chance.choice((0, 7, 8, 30, 31, 400)))
    asked = policy.ask(
        chance.choice(AGENCIES),
        chance.choice(sorted(WORDS.role.leaves)),
        chance.choice(sorted(WORDS.purpose.leaves)),
        chance.choice(list(Act)),
        known,
    )
    return asked, chance.choice(NODES)


def settled(verdict: Verdict) -> frozenset[str]:
    """As Cedar tells it: every deny, or else every allow."""
    effect = "deny" if verdict.denied else "allow"
    return frozenset(r.row for r in verdict.rules if r.effect == effect)


def differences(seed: int, total: int) -> Iterator[str]:
    """What the judges say differently in `total` decisions; what Casbin allowed is counted to `tally`."""
    chance = random.Random(seed)
    versions = policies(chance)
    for _ in range(total // BATCH):
        policy = chance.choice(versions)
        batch = [drawn(policy, chance) for _ in range(BATCH)]
        ours = [policy.verdict(a, n) for a, n in batch]
        again = [policy.verdict(a, n) for a, n in batch]
        requests = [(w.who, w.role, w.purpose, str(w.act), w.facts, n) for w, n in ((a.wanted, n) for a, n in batch)]
        cedar = Cedar(policy.rules, WORDS).decide(requests)
        for (asked, node), v, same, (allowed, reasons) in zip(batch, ours, again, cedar, strict=True):
            stock = policy.by_casbin(asked, node)
            said = (v.allowed, v.rules, v.obligations, v.fault)
            if said != (stock.allowed, stock.rules, stock.obligations, stock.fault) or same is not v:
                yield f"Casbin differs at {node} under {policy.digest[:12]}"
            if v.allowed != allowed or settled(v) != reasons:
                yield f"Cedar differs at {node} under {policy.digest[:12]}: {settled(v) ^ reasons}"


def test_a_seeded_slice_of_decisions_is_the_same_to_casbin_and_to_cedar() -> None:
    assert list(differences(11, SLICE)) == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2])
def test_more_than_a_hundred_thousand_decisions_are_the_same_to_casbin_and_to_cedar(seed: int) -> None:
    assert list(differences(seed, WHOLE)) == []


def test_the_judges_disagree_where_a_rule_is_missing() -> None:
    """That the oracle can tell: Cedar is given one rule fewer."""
    chance = random.Random(4)
    policy = Policy.compile(load_packs(["federation-base", "us-ca", "sanctuary-city"]), WORDS)
    denies = [r for r in policy.rules if r.effect == "deny"]
    less = Cedar([r for r in policy.rules if r is not denies[0]], WORDS)
    batch = [drawn(policy, chance) for _ in range(2_000)]
    requests = [(a.wanted.who, a.wanted.role, a.wanted.purpose, str(a.wanted.act), a.wanted.facts, n) for a, n in batch]
    told = [settled(policy.verdict(a, n)) for a, n in batch]
    assert any(mine != reasons for mine, (_, reasons) in zip(told, less.decide(requests), strict=True))


def test_a_decider_says_of_two_hundred_nodes_together_what_it_says_of_each_alone() -> None:
    """Cohorts, relations and memory against a decider that remembers nothing yet."""
    scene = Scene.make(200, seed=3)
    federation_policy, own = scene.policy(20), [scene.policy(12) for _ in range(6)]
    decider = scene.decider(federation_policy)
    targets = [(n, own[i % len(own)]) for i, n in enumerate(scene.federation.nodes)]
    permitted = 0
    for _ in range(12):
        question = scene.question()
        decisions = decider.decide(question, targets)
        alone = [scene.decider(federation_policy).decide(question, [t])[0] for t in targets[::20]]
        for one, same in zip(alone, decisions[::20], strict=True):
            assert (one.effect, one.rules, one.obligations, one.reason) == (
                same.effect,
                same.rules,
                same.obligations,
                same.reason,
            )
        permitted += sum(d.permitted for d in decisions)
    assert 0 < permitted < 12 * len(targets)
