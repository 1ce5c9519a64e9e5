"""Step 8: search the permitted part of the window, and release no more than the obligations allow."""

from __future__ import annotations

import datetime as dt

from comity import instants
from comity.decision import Obligations
from comity.detection import Match, redact
from comity.errors import InvalidInput
from comity.inquiry import Disclosed, Inquiry
from comity.outcome import Coverage
from comity.purpose import Act
from comity.query import AreaQuery, Circle, ConvoyQuery, PatternQuery, PlateQuery, Query
from node.model import Found
from node.store.interface import DetectionStore

MAX_DETECTIONS = 2_000  # an outcome of so many is about 250 kB
MAX_SIGHTINGS = 500  # of a plate whose convoy is asked for
MAX_GAPS = 5  # named in a reason
_MS = dt.timedelta(milliseconds=1)


def permitted_window(
    inquiry: Inquiry, obligations: Obligations, retention_s: int, now: dt.datetime
) -> tuple[Coverage, str, str]:
    """The part of the inquiry's window that may be searched, and why it is not all: code and sentence, or empty.

    The least of the look-back, the obligations and the retention.
    """
    begin, code, reason = inquiry.begin, "", ""
    retained = now - dt.timedelta(seconds=retention_s)
    if begin < retained:
        begin, code = retained, "RETENTION"
        reason = f"detections older than {_span(retention_s)} are not kept"
    if obligations.window_days is not None:
        allowed = now - dt.timedelta(days=obligations.window_days)
        if begin < allowed:
            begin, code = allowed, "WINDOW_LIMIT"
            reason = f"policy allows this search {obligations.window_days} days back"
    end = max(begin, min(inquiry.end, now))
    if begin == end and not code:
        code, reason = "NOT_YET_PAST", "the window begins later than this node's clock shows"
    return Coverage(begin=begin if begin < end else end, end=end), code, reason


def look_up(
    store: DetectionStore,
    inquiry: Inquiry,
    disclosed: Disclosed,
    obligations: Obligations,
    *,
    retention_s: int,
    agency: str,
    now: dt.datetime,
) -> Found:
    """What may be released of what the store holds, newest first, at most 2,000.

    More than that is never cut silently: the coverage begins after the newest one left out.

    Raises:
        Unavailable: the store cannot answer; never an empty result.
    """
    coverage, code, reason = permitted_window(inquiry, obligations, retention_s, now)
    matches: list[Match] = []
    if coverage.begin < coverage.end:
        matches = _find(store, inquiry.act, disclosed, coverage)
        # What fell out of retention while it was searched was not searched.
        horizon = min(store.horizon(), coverage.end)
        if horizon > coverage.begin:
            coverage, code = Coverage(begin=horizon, end=coverage.end), "RETENTION"
            reason = f"detections older than {_span(retention_s)} are not kept"
        gaps = store.gaps(coverage.begin, coverage.end) if coverage.begin < coverage.end else ()
        if gaps and not code:
            code = "CLASS_RETENTION"
            reason = "; ".join(f"{g.rule} is not kept from before {instants.to_text(g.end)}" for g in gaps[:MAX_GAPS])
    if len(matches) > MAX_DETECTIONS:
        first_left_out = matches[MAX_DETECTIONS].detection.captured_at
        matches = matches[:MAX_DETECTIONS]
        coverage = Coverage(begin=max(coverage.begin, first_left_out + _MS), end=coverage.end)
        code = "TOO_MANY"
        reason = f"more than {MAX_DETECTIONS} detections: ask for an earlier window to see the rest"
    # Nothing outside what is said to have been searched is released.
    released = [m for m in matches if coverage.begin <= m.detection.captured_at < coverage.end]
    return Found(
        detections=tuple(redact(m, obligations.redaction, agency) for m in released),
        coverage=coverage,
        reason_code=code,
        reason=reason,
    )


def _find(store: DetectionStore, act: Act, disclosed: Disclosed, span: Coverage) -> list[Match]:
    bounds = span.begin, span.end, MAX_DETECTIONS
    match disclosed.query:
        case PlateQuery(plate=plate):
            return store.exact(plate, *bounds) if act is Act.EXACT else store.confusable(plate, *bounds)
        case PatternQuery() as query:
            return store.partial(query, *bounds)
    raise InvalidInput(f"{act.value} searches are not supported yet", reason="NOT_YET")


def _span(seconds: int) -> str:
    return f"{seconds // 86400} days" if seconds >= 86400 else f"{seconds} seconds"
