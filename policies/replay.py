"""Past decisions decided again: each under the policies it names, and all under new ones.

A log holds no case number in clear, and of an instant only when it was written. What a question said is therefore
recovered from what the decision itself shows: of the few readings that are possible (with a case number or without;
the look-back in whole days at the moment of issue, receipt or decision; what the node knew of its detections), one
must give exactly the decision on record.

A search that the policies permit may be refused after they were asked: its quota was spent, or broker and node stood
under different versions. Such a refusal is reproduced if they do permit it, and counted apart.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from comity.decision import NO_OBLIGATIONS, Decision, Effect, Pep
from comity.envelope import BUNDLE_TYPE
from comity.errors import PolicyError
from comity.purpose import Act, Authority, LegalBasis
from identity.dsse import dsse_json_decode
from policies.bundle import Bundle, compile_bundle, parse_bundle
from policies.conditions import NODE_FACTS
from policies.decide import Decider
from policies.engine import Policy
from policies.published import EXPIRED, NO_POLICY
from policies.request import Question
from policies.setting import Setting

NO_CASE = "federation:FED-1"  # the rule that refuses a search without a case number
MAX_DIFFERENCES = 100
MAX_EXAMPLES = 3
_REMEMBERED = 10_000
_DAY = dt.timedelta(days=1)
_CLASSES = (frozenset[str](), frozenset({"mobile-camera"}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One decision on record with the inquiry it answers, both as entries of a log. `index`: the decision's."""

    index: int
    decision: Mapping[str, Any]
    inquiry: Mapping[str, Any]

    def readings(self, node_facts: bool) -> Iterator[Question]:
        """Every question that this may have been, the likeliest first."""
        said = NO_CASE not in self.decision["rules"]
        moments = [
            _written(self.decision),
            _written(self.inquiry),
            dt.datetime.fromisoformat(self.inquiry["issued_at"]),
        ]
        begin = dt.datetime.fromisoformat(self.inquiry["window"]["begin"])
        days = dict.fromkeys((m.date(), max(0, math.ceil((m - begin) / _DAY))) for m in moments)
        facts: list[frozenset[str] | None] = [None]
        if node_facts and self.decision["pep"] == Pep.NODE.value:
            every = sorted(NODE_FACTS)
            facts += [frozenset(c) for n in range(len(every) + 1) for c in itertools.combinations(every, n)]
        for found, (day, lookback), case in itertools.product(facts, days, (said, not said)):
            yield self._question(day, lookback, case, found)

    def _question(self, day: dt.date, lookback: int, case: bool, found: frozenset[str] | None) -> Question:
        i = self.inquiry
        requester = i["requester"]
        return Question(
            requester_agency=requester["agency"],
            role=requester["role"],
            beneficiary=i["beneficiary"],
            purpose=i["purpose"]["code"],
            legal_basis=LegalBasis(i["purpose"]["legal_basis"]),
            authority=Authority(i["authority"]),
            act=Act(i["act"]),
            has_case=case,
            lookback_days=lookback,
            approved=self.decision["approved"],
            day=day,
            node_facts=found,
            offence=i["purpose"]["offence"],
            person=f"spiffe://{requester['agency']}/person/{requester['person']}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A decision that its own policies do not give. `said`: the log's words; `gives`: the policies'."""

    index: int
    node: str
    said: str
    gives: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What would come out differently, for all decisions that are alike in this. `why`: of the new decision.

    `was` and `would_be`: permitted, pending or refused, with the duties. `examples`: some entries' indexes.
    """

    requester: str
    beneficiary: str
    purpose: str
    node: str
    was: str
    would_be: str
    why: str
    count: int
    examples: tuple[int, ...]


@dataclass(slots=True)
class Report:
    """What a replay found so far. `unknown`: decisions by the digest of a policy that is not at hand.

    `orphans`: decisions whose inquiry the log does not hold. `judged`: those decided again under the new policies.
    `besides`: of those reproduced, refusals of what the policies permit, by their reason.
    """

    decisions: int = 0
    reproduced: int = 0
    orphans: int = 0
    judged: int = 0
    different: int = 0
    differences: list[Difference] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    besides: Counter[str] = field(default_factory=Counter)
    changed: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)

    @property
    def changes(self) -> list[Change]:
        """The most frequent first."""
        return [
            Change(
                requester=k[0], beneficiary=k[1], purpose=k[2], node=k[3], was=k[4], would_be=k[5], why=k[6],
                count=count, examples=tuple(self.changed[k]),
            )
            for k, count in sorted(self.counts.items(), key=lambda kv: (-kv[1], kv[0]))
        ]  # fmt: skip


class Replay:
    """Decides again. `known`: every policy at hand, which its digest names; `new`: what to compare with."""

    def __init__(self, new: Setting, known: Iterable[Policy | None]) -> None:
        self.new = new
        at_hand = itertools.chain(known, (new.federation_policy,), new.node_policies.values())
        self.known = {p.digest: p for p in at_hand if p is not None and p.vocabulary == new.vocabulary}
        self._rests = {
            p.digest: any((r.condition.needs | r.condition.bars) & NODE_FACTS for r in p.rules)
            for p in self.known.values()
        }
        self._deciders: dict[tuple[str, Pep], Decider] = {}
        self.report = Report()

    def take(self, past: Past) -> None:
        """Add one decision to the report."""
        report, d = self.report, past.decision
        report.decisions += 1
        missing = [x for x in (d["federation_digest"], d["policy_digest"]) if x and x not in self.known]
        if not d["federation_digest"]:
            missing.append("none named")
        question = next(past.readings(node_facts=False))
        was = _outcome(_logged(d))
        if missing:
            report.unknown.update(missing[:1])
            if d["reason_code"] in _AFTERWARDS:
                return  # what the policies said is not on record
        elif found := self._reproduce(past):
            question, again = found
            if d["reason_code"] in _AFTERWARDS:
                report.besides[d["reason_code"]] += 1
                was = _outcome(_as_logged(again))
        self._compare(past, question, was)

    def orphan(self) -> None:
        """Add one decision whose inquiry is not on record."""
        self.report.decisions += 1
        self.report.orphans += 1

    def _reproduce(self, past: Past) -> tuple[Question, Decision] | None:
        """What was asked, and what the policies alone give."""
        d = past.decision
        rests = self._rests[d["federation_digest"]] or (d["policy_digest"] != "" and self._rests[d["policy_digest"]])
        policy = self.known[d["policy_digest"]] if d["policy_digest"] else None
        first = ""
        for question in past.readings(node_facts=rests):
            again = self._decide(d["federation_digest"], d["pep"], question, d["node"], policy)
            if _as_logged(_after(again, d["reason_code"])) == _logged(d):
                self.report.reproduced += 1
                return question, again
            first = first or _said(_as_logged(again))
        self.report.different += 1
        if len(self.report.differences) < MAX_DIFFERENCES:
            said = _said(_logged(d))
            self.report.differences.append(Difference(index=past.index, node=d["node"], said=said, gives=first))
        return None

    def _compare(self, past: Past, question: Question, was: str) -> None:
        d = past.decision
        # a node that did not state which of its cameras are mobile would refuse again
        given = d["pep"] == Pep.BROKER.value or d["reason_code"] == "INDETERMINATE" or question.node_facts is not None
        again = self._under_new(question, d["pep"], d["node"], given=given)
        self.report.judged += 1
        would_be = _outcome(_as_logged(again))
        if was != would_be:
            requester = question.requester_agency
            key = (requester, question.beneficiary, question.purpose, d["node"], was, would_be, again.reason)
            self.report.counts[key] += 1
            examples = self.report.changed.setdefault(key, [])
            if len(examples) < MAX_EXAMPLES:
                examples.append(past.index)

    def _under_new(self, question: Question, pep: str, node: str, *, given: bool) -> Decision:
        """The new decision; where the node's facts are not `given`, as the node decides: of each class of cameras."""
        policy, top = self.new.node_policies.get(node), self.new.federation_policy.digest
        rests = self._rests[top] or (policy is not None and self._rests[policy.digest])
        if given or not rests:
            return self._decide(top, pep, question, node, policy)
        every = [self._decide(top, pep, replace(question, node_facts=f), node, policy) for f in _CLASSES]
        return next((one for one in every if one.effect is Effect.PERMIT), every[0])

    def _decide(self, digest: str, pep: str, question: Question, node: str, policy: Policy | None) -> Decision:
        key = (digest, Pep(pep))
        decider = self._deciders.get(key)
        if decider is None:
            decider = Decider(self.new.federation, self.known[digest], key[1], new_id=lambda: "")
            self._deciders[key] = decider
        return decider.decide(question, [(node, policy)])[0]


def replay(
    entries: Iterable[tuple[int, Mapping[str, Any]]],
    recall: Callable[[str], Mapping[str, Any] | None],
    to: Replay,
) -> Report:
    """The report on all decisions among a log's entries, oldest first. `recall` finds an older inquiry by its id."""
    inquiries: dict[str, Mapping[str, Any]] = {}
    for index, entry in entries:
        if entry["type"] == "inquiry":
            if len(inquiries) >= _REMEMBERED:
                inquiries.clear()
            inquiries[entry["inquiry_id"]] = entry
        elif entry["type"] == "decision":
            inquiry = inquiries.get(entry["inquiry_id"]) or recall(entry["inquiry_id"])
            if inquiry is None or inquiry["inquiry_hash"] != entry["inquiry_hash"]:
                to.orphan()
            else:
                to.take(Past(index=index, decision=entry, inquiry=inquiry))
    return to.report


def read_bundle(data: bytes, setting: Setting) -> tuple[Bundle, Policy]:
    """The bundle in a signed file and its policy, valid or not any more. Its signature is not verified: what a log
    names by digest needs none, and what is only tried out has none.

    Raises:
        InvalidInput: BAD_ENVELOPE.
        PolicyError: as `parse_bundle` and `compile_bundle`, except for its time.
    """
    payload = dsse_json_decode(data, payload_type=BUNDLE_TYPE).payload
    try:
        begun = dt.datetime.fromisoformat(orjson.loads(payload)["valid_from"])
        bundle = parse_bundle(payload, setting.federation, begun)
    except (ValueError, TypeError, KeyError) as e:
        raise PolicyError("is no bundle", file="bundle", reason="BUNDLE_MALFORMED") from e
    return bundle, compile_bundle(bundle, setting.vocabulary)


# Refusals that follow the policies' decision, and what must have been true of it.
_AFTERWARDS: Mapping[str, Callable[[Decision], bool]] = {
    "POLICY_CHANGED": lambda d: d.pep is Pep.NODE and d.effect is Effect.PERMIT,
    "OBLIGATION_UNKNOWN": lambda d: d.pep is Pep.NODE,
    "QUOTA_SPENT": lambda d: d.permitted and bool(d.quotas),
    "BREADTH_SPENT": lambda d: d.pep is Pep.BROKER and d.permitted and d.obligations.breadth is not None,
}


def _after(decision: Decision, code: str) -> Decision:
    """The decision, refused as `code` says if that can have followed it."""
    if code == EXPIRED and decision.reason_code == NO_POLICY:
        return replace(decision, reason_code=EXPIRED)
    follows = _AFTERWARDS.get(code)
    if follows is None or not follows(decision):
        return decision
    return replace(decision, effect=Effect.DENY, obligations=NO_OBLIGATIONS, reason_code=code)


_Logged = tuple[str, tuple[str, ...], Mapping[str, object], str, bool]


def _logged(d: Mapping[str, Any]) -> _Logged:
    return d["effect"], tuple(sorted(d["rules"])), d["obligations"], d["reason_code"], d["approved"]


def _as_logged(d: Decision) -> _Logged:
    rules = tuple(sorted(f"{r.layer.value}:{r.rule}" for r in d.rules))
    return d.effect.value, rules, d.obligations.as_json(), d.reason_code, d.approved


def _said(logged: _Logged) -> str:
    return f"{_outcome(logged)} [{logged[3]}] under {', '.join(logged[1]) or 'no rule'}"


def _outcome(logged: _Logged) -> str:
    effect, _, duties, _, approved = logged
    if effect != "permit":
        return "refused"
    asked = ", ".join(f"{k}={v}" for k, v in sorted(duties.items()) if k != "approval")
    return ("permitted" if approved or "approval" not in duties else "pending") + (f" with {asked}" if asked else "")


def _written(entry: Mapping[str, Any]) -> dt.datetime:
    return dt.datetime.fromisoformat(entry["at"]) - dt.timedelta(milliseconds=entry.get("clock_behind_ms", 0))
