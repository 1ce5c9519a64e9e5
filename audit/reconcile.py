"""Broker's log against nodes' logs, each verified first, joined on (inquiry id, node): who says something else.

    1 verify     each log by itself                                        LOG_FAULT
    2 heads      every head that one side holds of the other is its true one, every receipt the entry it is for, in
                 order                                                     RECEIPT_NOT_HONOURED, ORDER_DIFFERS
    3 join       what one side recorded of an exchange, the other did      MISSING_AT_NODE, MISSING_AT_BROKER,
                                                                           UNANSWERED
    4 compare    inquiry and decision                                      FIELD_DIFFERS
    5 compare    outcome                                                   OUTCOME_DIFFERS
    6 time       the two clocks are apart by the same amount all along     BACKDATED

No discrepancy: an answer that was lost on its way (the broker's own timed_out or error), a search that a stop or crash
cut off, clocks minutes apart, a node that decided under another policy (said apart).

What two logs cannot show: an entry after the newest head that the other side holds is compared by what it says alone
(`unpinned` counts them), and one that concerns no exchange not at all. Witnesses hold newer heads: with what they have
seen, it is the entries after that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from audit.compare import Pair, compare_cited, compare_order
from audit.discrepancy import Discrepancy, Kind, Reconciliation
from audit.hashes import HashReader, reading
from audit.note import VerifierKey
from audit.side import Progress, Side
from audit.verify import verify
from comity.errors import InvalidInput
from identity.directory import Directory

__all__ = ["Discrepancy", "Kind", "Reconciliation", "reconcile"]


def reconcile(
    broker: Path,
    nodes: Sequence[Path],
    *,
    directory: Directory | None = None,
    progress: Progress | None = None,
    seen: Sequence[bytes] = (),
) -> Reconciliation:
    """Whether the broker's log and these nodes' logs tell the same. The directory pins keys and names programs.

    `seen` are signed notes from witnesses, of any log.

    A log at fault is reported and not compared further; without the broker's none is.

    Raises:
        ConfigError: NO_LOG, NO_KEY.
        InvalidInput: a log that is not told to be a node's (NOT_A_NODE) or is told to be none of a broker
            (NOT_A_BROKER), or two of one (SAME_LOG).
        LogFault: a file damaged so that it cannot be opened.
        Unavailable: LOG_CHANGED.
    """
    result = Reconciliation()
    with ExitStack() as stack:
        found: list[tuple[Side, HashReader] | None] = []
        for path in (broker, *nodes):
            reader = stack.enter_context(reading(path))
            side = _side(path, reader, directory, result, progress, seen)
            found.append((side, reader) if side else None)
        if found[0] is None:
            return result
        ours = found[0]
        if ours[0].programs == {"node"}:
            raise InvalidInput("the first log is a node's: name the broker's first", reason="NOT_A_BROKER")
        others = [f for f in found[1:] if f is not None]
        for side, reader in (ours, *others):
            held = [h for other, _ in (ours, *others) for h in other.held if h.origin == side.origin]
            side.look_up(reader, (h.size for h in held), (h.entry[0] for h in held if h.entry))
        named: dict[str, Side] = {}
        for side, _ in others:
            if side.origin == ours[0].origin:
                raise InvalidInput(f"{side.origin} was given twice", reason="SAME_LOG")
            name = _name(side, directory, result)
            if name is None:
                continue
            if name in named:
                raise InvalidInput(f"two logs of {name} were given", reason="SAME_LOG")
            named[name] = side
            Pair(ours[0], side, name, result).run()
        compare_order(ours[0], named, result)
        compare_cited(named, result)
        _summarise(ours[0], named, result)
    return result


def _side(
    path: Path,
    reader: HashReader,
    directory: Directory | None,
    result: Reconciliation,
    progress: Progress | None,
    seen: Sequence[bytes],
) -> Side | None:
    """Step 1."""
    report = verify(path, directory=directory, progress=progress, seen=seen)
    result.warnings += [f"{path.name}: {w}" for w in report.warnings]
    if report.fault or report.head is None:
        sentence = f"{path.name}: {report.fault.sentence if report.fault else 'there is no head'}"
        result.discrepancies.append(Discrepancy(kind=Kind.LOG_FAULT, sentence=sentence))
        return None
    known = directory.logs.get(report.head.origin) if directory else None
    key = VerifierKey.of(report.head.origin, known.key) if known else reader.key()
    side = Side(key, report.head)
    side.seen = report.seen
    side.read(reader, progress)
    return side


def _name(side: Side, directory: Directory | None, result: Reconciliation) -> str | None:
    """The node whose log it is; None, and a discrepancy, if it says that it is of several."""
    known = directory.logs.get(side.origin) if directory else None
    names = {known.id} if known else side.ids | side.nodes
    if not names or (known and known.program != "node") or side.programs == {"broker"}:
        raise InvalidInput(
            f"the log {side.origin} does not say which node it is of: give the directory", reason="NOT_A_NODE"
        )
    if len(names) > 1:
        sentence = f"{side.origin}: it says that it is of several nodes: {', '.join(sorted(names))}"
        result.discrepancies.append(Discrepancy(kind=Kind.LOG_FAULT, sentence=sentence))
        return None
    return names.pop()


def _summarise(broker: Side, nodes: Mapping[str, Side], result: Reconciliation) -> None:
    for side in (broker, *nodes.values()):
        holders = [holder for holder in (broker, *nodes.values()) if holder is not side]
        held = [side.seen, *(h.size for holder in holders for h in holder.held if h.origin == side.origin)]
        result.unpinned[side.origin] = side.head.size - max(s for s in held if s <= side.head.size)
    result.elsewhere += sum(1 for key in broker.exchanges if key[1] not in nodes)
    decided = {inquiry_id for inquiry_id, _ in broker.exchanges}
    for inquiry_id, asked in broker.asked.items():
        if inquiry_id not in decided:
            sentence = "the broker recorded an inquiry and no decision"
            result.discrepancies.append(
                Discrepancy(kind=Kind.UNANSWERED, sentence=sentence, inquiry_id=inquiry_id, broker_index=asked.index)
            )
    order = list(Kind)
    result.discrepancies.sort(key=lambda d: (order.index(d.kind), d.node, d.broker_index, d.node_index))
