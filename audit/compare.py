"""The broker's log and one node's, exchange by exchange: steps 2 to 6 of `audit.reconcile`."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median_low
from typing import Any

from audit.discrepancy import Discrepancy, Kind, Reconciliation
from audit.note import VerifierKey, verify_checkpoint
from audit.side import Exchange, Held, Key, Said, Side
from comity.errors import LogFault

MAX_DRIFT_MS = 10 * 60_000  # how far a pair of clocks may drift from where they mostly are
SEARCH_MS = 10 * 60_000  # a search that was cut off by a stop ended this soon before it
_DAY_MS = 24 * 3_600_000
_UNDELIVERED = ("timed_out", "error", "unreachable")
_DECIDED = ("effect", "rules", "obligations", "reason_code", "approved")


class Pair:
    """The broker's log and one node's."""

    def __init__(self, broker: Side, node: Side, name: str, result: Reconciliation) -> None:
        self.broker, self.node, self.name, self.result = broker, node, name, result
        self._bounds: list[tuple[Key, int, int, int]] = []  # node minus broker (ms): at most, at least; node's index

    def run(self) -> None:
        """Report to the result whatever the two do not say alike."""
        self._heads(self.node, self.broker)
        self._heads(self.broker, self.node)
        keys = dict.fromkeys(k for side in (self.broker, self.node) for k in side.exchanges if k[1] == self.name)
        for key in keys:
            self.result.exchanges += 1
            self._exchange(key, self.broker.exchanges.get(key, Exchange()), self.node.exchanges.get(key, Exchange()))
        for inquiry_id, asked in self.node.asked.items():
            if (inquiry_id, self.name) not in keys:
                known = inquiry_id in self.broker.asked
                kind = Kind.MISSING_AT_NODE if known else Kind.MISSING_AT_BROKER
                self._found(
                    kind, "the node holds an inquiry without a decision", (inquiry_id, self.name), n=asked.index
                )
        for said in self.node.rejected:
            self._rejected(said)
        self._clocks()

    def _found(self, kind: Kind, sentence: str, key: Key | None = None, b: int = -1, n: int = -1, **more: Any) -> None:
        inquiry_id = key[0] if key else ""
        self.result.discrepancies.append(
            Discrepancy(
                kind=kind,
                sentence=sentence,
                node=self.name,
                inquiry_id=inquiry_id,
                broker_index=b,
                node_index=n,
                **more,
            )
        )

    # Step 2

    def _heads(self, holder: Side, subject: Side) -> None:
        """Every head of `subject` that `holder` stored, smallest first; of those broken by one change, the first."""
        held = sorted((h for h in holder.held if h.origin == subject.origin), key=lambda h: (h.size, h.index))
        good, broken, signed = 0, [], {}
        for h in held:
            if h.note and h.note not in signed:
                signed[h.note] = _signed(h.note, subject.vkey)
            if h.note and not signed[h.note]:
                self._not_honoured(holder, h, "the head stored here is not signed by the other log's key")
            elif subject.roots.get(h.size) != h.root:
                broken.append(h)
            elif h.entry and subject.leaves.get(h.entry[0]) != h.entry[1]:
                self._not_honoured(holder, h, "the other log has another entry there, under a head that is its own")
            elif not broken:
                good = h.size
        if broken:
            first = broken[0]
            where = f"one of its entries {good} to {first.size - 1} is not what it was then"
            if first.size > subject.head.size:
                where = f"it has only {subject.head.size}: it was cut back, or this copy is older"
            sentence = f"the other log had {first.size} entries and signed them; {where}"
            self._not_honoured(holder, first, sentence, count=len(broken))

    def _not_honoured(self, holder: Side, h: Held, sentence: str, count: int = 1) -> None:
        there = h.entry[0] if h.entry else h.size - 1
        b, n = (h.index, there) if holder is self.broker else (there, h.index)
        self._found(Kind.RECEIPT_NOT_HONOURED, sentence, h.key, b, n, count=count)

    # Step 3

    def _exchange(self, key: Key, b: Exchange, n: Exchange) -> None:
        for kind, which, more in (
            (Kind.MISSING_AT_NODE, "b", b.more),
            (Kind.MISSING_AT_BROKER, "n", n.more),
        ):
            for index in more:
                self._found(kind, "recorded a second time here, which the other side knows once", key, **{which: index})
        if b.decision is None:
            self._unknown_to_broker(key, n)
        elif n.decision is None:
            self._unknown_to_node(key, b, b.decision, n)
        else:
            self._inquiry(key, b.decision, n.decision)
            self._receipts(key, b, n)
            self._decision(key, b.decision, n.decision)
            self._outcome(key, b, n, b.decision, n.decision)

    def _unknown_to_broker(self, key: Key, n: Exchange) -> None:
        if n.receipt and n.receipt.origin != self.broker.origin:
            self.result.elsewhere += 1
            return
        there = n.decision or n.outcome or n.receipt
        sentence = "the node was asked, and the broker has no decision of it"
        self._found(Kind.MISSING_AT_BROKER, sentence, key, n=there.index if there else -1)

    def _unknown_to_node(self, key: Key, b: Exchange, decided: Said, n: Exchange) -> None:
        outcome = b.outcome
        stray = n.outcome or n.receipt
        if stray:
            self._found(
                Kind.MISSING_AT_NODE, "the node's decision is gone, what followed it is there", key, n=stray.index
            )
        if outcome is None:
            if b.receipt:
                self._found(Kind.MISSING_AT_NODE, "the node had decided, and has no decision", key, b.receipt.index)
            self._unanswered(key, decided)
            return
        permitted = _permitted(decided)
        kind = outcome.said["outcome"]
        if not _delivered(outcome):
            self._own(key, decided, outcome)
            if b.receipt:
                self._found(Kind.MISSING_AT_NODE, "the node had decided, and has no decision", key, b.receipt.index)
            elif permitted and kind != "unreachable":
                self.result.lost += 1
        elif not permitted:
            sentence = f"{kind} of a node that was not to be asked"
            self._found(Kind.OUTCOME_DIFFERS, sentence, key, outcome.index, fields=("outcome",))
        elif kind == "error" and not b.receipt:  # it could not record, and so did not search
            self.result.lost += 1
        elif not (kind == "refused" and self._was_rejected(key)):
            self._found(Kind.MISSING_AT_NODE, f"the node answered {kind}, and has no decision", key, outcome.index)

    def _was_rejected(self, key: Key) -> bool:
        asked = self.broker.asked[key[0]]
        return any(r.said["payload_hash"] == asked.hash for r in self.node.rejected)

    def _unanswered(self, key: Key, decided: Said) -> None:
        if self.broker.asked[key[0]].said["preview"]:
            return
        if self.broker.broke_off(decided, SEARCH_MS):
            self.result.cut_off += 1
        else:
            self._found(Kind.UNANSWERED, "the broker decided and recorded no outcome", key, decided.index)

    def _rejected(self, said: Said) -> None:
        """What the node refused as no inquiry of its sender's: this broker had it, and was told so."""
        program, _, sender = said.said["received_from"].partition("/broker/")
        if self.broker.ids and (not program or sender not in self.broker.ids):
            self.result.elsewhere += 1
            return
        inquiry_id = self.broker.inquiry_of(said.said["payload_hash"])
        exchange = self.broker.exchanges.get((inquiry_id, self.name)) if inquiry_id else None
        if inquiry_id is None or exchange is None:
            sentence = f"the broker sent what the node rejected ({said.said['reason_code']}), and has not recorded it"
            self._found(Kind.MISSING_AT_BROKER, sentence, n=said.index)

    # Steps 4 and 5

    def _inquiry(self, key: Key, b: Said, n: Said) -> None:
        ours, theirs = self.broker.asked[key[0]], self.node.asked[key[0]]
        fields = [name for name in ours.said if ours.said[name] != theirs.said[name]]
        if ours.hash != theirs.hash:
            fields.insert(0, "inquiry_hash")
        if fields:
            sentence = f"the inquiry was recorded with another {', '.join(fields)}"
            self._found(Kind.FIELD_DIFFERS, sentence, key, ours.index, theirs.index, fields=tuple(fields))
        if ours.at != b.at or theirs.at != n.at:
            sentence = "an inquiry and its decision, which are one commit, have two times"
            self._found(Kind.BACKDATED, sentence, key, ours.index, theirs.index)
        if not _permitted(b):
            sentence = "the node was asked, and the broker's decision does not permit it"
            self._found(Kind.FIELD_DIFFERS, sentence, key, b.index, n.index, fields=("effect",))

    def _receipts(self, key: Key, b: Exchange, n: Exchange) -> None:
        assert b.decision is not None
        assert n.decision is not None
        if n.receipt is None:
            sentence = "the broker's receipt, which the node records with its decision, is not there"
            self._found(Kind.MISSING_AT_NODE, sentence, key, b.decision.index, n.decision.index)
        elif n.receipt.origin != self.broker.origin:
            self._not_honoured(self.node, n.receipt, "the broker has this exchange, and the receipt names another log")
        elif n.receipt.index != n.decision.index + 1:
            self._found(Kind.ORDER_DIFFERS, "the receipt does not follow its decision", key, n=n.receipt.index)
        if b.receipt is None:
            if b.outcome and n.outcome and b.outcome.said["payload_hash"] == n.outcome.said["payload_hash"]:
                sentence = "the node's receipt, which came with its answer, is not there"
                self._found(Kind.MISSING_AT_BROKER, sentence, key, b.outcome.index, n.decision.index)
        elif b.receipt.origin != self.node.origin:
            self._not_honoured(self.broker, b.receipt, "the receipt names another log than the node's")
        elif b.outcome and b.receipt.index != b.outcome.index + 1:
            self._found(Kind.ORDER_DIFFERS, "the receipt does not follow its outcome", key, b.receipt.index)

    def _decision(self, key: Key, b: Said, n: Said) -> None:
        if any(b.said[name] != n.said[name] for name in ("policy_digest", "federation_digest")):
            self.result.skewed.append(key)
            return
        fields = tuple(name for name in _DECIDED if b.said[name] != n.said[name])
        if fields:
            sentence = f"under one policy, another {', '.join(fields)}"
            self._found(Kind.FIELD_DIFFERS, sentence, key, b.index, n.index, fields=fields)

    def _outcome(self, key: Key, b: Exchange, n: Exchange, b_decided: Said, n_decided: Said) -> None:
        ours, theirs = b.outcome, n.outcome
        delivered = ours is not None and _delivered(ours)
        end = ours.at if ours is not None and delivered else b_decided.at + _DAY_MS
        self._bounds.append((key, n_decided.at - b_decided.at, n_decided.at - end, n_decided.index))
        if theirs is not None and delivered:
            self._bounds.append((key, theirs.at - b_decided.at, theirs.at - end, theirs.index))
        if ours is None:
            self._without_ours(key, b_decided, theirs)
        elif not delivered and (ours.said["outcome"] not in ("timed_out", "error") or b.receipt):
            sentence = f"the broker says {ours.said['outcome']} by itself, and the node decided"
            at = theirs.index if theirs else n_decided.index
            self._found(Kind.OUTCOME_DIFFERS, sentence, key, ours.index, at, fields=("outcome",))
        elif not delivered:
            self._own(key, b_decided, ours)
            self.result.lost += 1
        elif theirs is None and ours.said["outcome"] == "error":
            self._node_unanswered(key, n_decided)
        elif theirs is None:
            sentence = f"the node answered {ours.said['outcome']}, and its log does not say so"
            self._found(Kind.MISSING_AT_NODE, sentence, key, ours.index, n_decided.index)
        else:
            self._both(key, ours, theirs)
        if theirs is None and not delivered:
            self._node_unanswered(key, n_decided)

    def _without_ours(self, key: Key, decided: Said, theirs: Said | None) -> None:
        if theirs is None:
            self._unanswered(key, decided)
        elif self.broker.broke_off(decided, SEARCH_MS):
            self.result.cut_off += 1
        else:
            sentence = f"the node answered {theirs.said['outcome']}, and the broker recorded no outcome"
            self._found(Kind.MISSING_AT_BROKER, sentence, key, decided.index, theirs.index)

    def _node_unanswered(self, key: Key, decided: Said) -> None:
        if self.node.broke_off(decided, SEARCH_MS):
            self.result.cut_off += 1
        else:
            self._found(Kind.UNANSWERED, "the node decided and recorded no outcome", key, n=decided.index)

    def _both(self, key: Key, ours: Said, theirs: Said) -> None:
        names = ("outcome", "count", "coverage", "payload_hash")
        fields = tuple(name for name in names if ours.said[name] != theirs.said[name])
        if fields:
            sentence = f"the broker released {ours.said['outcome']}, the node answered {theirs.said['outcome']}"
            self._found(Kind.OUTCOME_DIFFERS, sentence, key, ours.index, theirs.index, fields=fields)

    def _own(self, key: Key, decided: Said, outcome: Said) -> None:
        """The broker's own outcome fits its own decision."""
        kind, said = outcome.said["outcome"], outcome.said
        wrong = []
        if kind not in _own_kinds(decided):
            wrong.append("outcome")
        if said["count"] or said["coverage"]:
            wrong.append("count" if said["count"] else "coverage")
        if kind == "refused" and said["reason_code"] != decided.said["reason_code"]:
            wrong.append("reason_code")
        if wrong:
            sentence = f"the broker's own {kind} does not go with its decision ({decided.said['reason_code']})"
            self._found(Kind.OUTCOME_DIFFERS, sentence, key, outcome.index, fields=tuple(wrong))

    # Step 6

    def _clocks(self) -> None:
        """The node's clock minus the broker's lies between the two bounds of every exchange, give or take the drift."""
        if not self._bounds:
            return
        usual = median_low([most for _, most, _, _ in self._bounds])
        for key, most, least, index in self._bounds:
            if most < usual - MAX_DRIFT_MS or least > usual + MAX_DRIFT_MS:
                decided = self.broker.exchanges[key].decision
                minutes = round((most - usual) / 60_000)
                sentence = f"the two clocks are {abs(minutes)} minutes further apart here than in most exchanges"
                self._found(Kind.BACKDATED, sentence, key, decided.index if decided else -1, index)


def compare_order(broker: Side, nodes: Mapping[str, Side], result: Reconciliation) -> None:
    """Step 2, over all receipts of one log, whoever holds them: every decision stands where it was recorded.

    Of decisions that moved by as much as the one before, the first is reported.
    """
    for name, subject in (("", broker), *nodes.items()):
        holders = nodes.values() if subject is broker else [broker]
        rows = sorted(
            (h.entry[0], decided.index, h.index, h.key)
            for holder in holders
            for h in holder.held
            if h.origin == subject.origin and h.entry and h.key and (decided := subject.decision(h.key))
        )
        moved_by, last = 0, -1
        for was, now, index, key in rows:
            kind = Kind.ORDER_DIFFERS if now < last else Kind.RECEIPT_NOT_HONOURED
            if now < last or now - was != moved_by:
                b, n = (now, index) if subject is broker else (index, now)
                result.discrepancies.append(
                    Discrepancy(
                        kind=kind,
                        sentence=f"the decision was recorded at {was} of {subject.origin} and stands at {now}",
                        node=name or key[1],
                        inquiry_id=key[0],
                        broker_index=b,
                        node_index=n,
                    )
                )
            moved_by, last = now - was, max(last, now)


def compare_cited(nodes: Mapping[str, Side], result: Reconciliation) -> None:
    """Step 2, heads that nodes have cosigned of one another: of those broken by one change, the first."""
    for name, subject in nodes.items():
        held = sorted(
            (h.size, h.root, other)
            for other, side in nodes.items()
            if side is not subject
            for h in side.held
            if h.origin == subject.origin and not h.key
        )
        broken = [(size, other) for size, root, other in held if subject.roots.get(size) != root]
        if broken:
            size, other = broken[0]
            sentence = f"{other} has seen another head of {size} entries of {subject.origin} than it has"
            result.discrepancies.append(
                Discrepancy(
                    kind=Kind.RECEIPT_NOT_HONOURED, sentence=sentence, node=name, node_index=size - 1, count=len(broken)
                )
            )


def _signed(note: bytes, key: VerifierKey) -> bool:
    try:
        verify_checkpoint(note, key)
    except LogFault:
        return False
    return True


def _permitted(decided: Said) -> bool:
    said = decided.said
    return said["effect"] == "permit" and (said["approved"] or "approval" not in said["obligations"])


def _delivered(outcome: Said) -> bool:
    """True if the node made it: the broker gives a reason with its own, and cannot know the node's."""
    return not outcome.said["reason_code"]


def _own_kinds(decided: Said) -> tuple[str, ...]:
    if _permitted(decided):
        return _UNDELIVERED
    if decided.said["effect"] == "permit":
        return ("pending",)
    return ("refused", "unreachable") if decided.said["reason_code"] == "NO_POLICY" else ("refused",)
