"""Step 8: search the permitted part of the window, and release no more than the obligations allow."""

from __future__ import annotations

import datetime as dt
from typing import assert_never

from comity import instants
from comity.decision import Obligations, Redaction
from comity.detection import Match, redact
from comity.errors import ComityError
from comity.inquiry import Disclosed, Inquiry
from comity.outcome import Coverage
from comity.purpose import Act
from comity.query import AreaQuery, ConvoyQuery, PatternQuery, PlateQuery, Query
from node.model import ALL_CAMERAS, Cameras, Found
from node.store.interface import DetectionStore

MAX_DETECTIONS = 2_000  # an outcome of so many is about 250 kB
MAX_SIGHTINGS = 500  # of a plate whose convoy is asked for
MAX_GAPS = 5  # named in a reason
MAX_LOOKS = 20  # past reads of cameras that are left out: a busy street's could be asked for by the million
LEFT_OUT = "policy releases nothing of some of this node's cameras to this search"
MIN_COARSE_RADIUS_M = 1_000  # what a place rounded to 0.01 degree gives away too
_MS = dt.timedelta(milliseconds=1)


class Withheld(ComityError):
    """What was asked may not be told under the obligations, found or not: an outcome `withheld`."""

    reason = "PLACE_NOT_RELEASED"


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
    cameras: Cameras = ALL_CAMERAS,
) -> Found:
    """What may be released of what the store holds, newest first, at most 2,000.

    More than that is never cut silently: the coverage begins after the newest one left out. Neither are `cameras`:
    where some are left out the outcome is a part, found or not.

    Raises:
        Withheld: the query itself names what the obligations do not let out; nothing was searched.
        Unavailable: the store cannot answer; never an empty result.
    """
    check_releasable(disclosed.query, obligations.redaction)
    check_cameras(disclosed.query, cameras)
    coverage, code, reason = permitted_window(inquiry, obligations, retention_s, now)
    matches: list[Match] = []
    if coverage.begin < coverage.end:
        matches, whole_from = _find_of(cameras, store, inquiry.act, disclosed.query, coverage)
        if whole_from > coverage.begin:
            coverage, code = Coverage(begin=whole_from, end=coverage.end), "TOO_MANY"
            many = "reads are more than can be looked through"
            if isinstance(disclosed.query, ConvoyQuery):
                many = f"the plate was seen more than {MAX_SIGHTINGS} times"
            reason = f"{many}: ask for an earlier window to see the rest"
        # What fell out of retention while it was searched was not searched.
        horizon = min(store.horizon(), coverage.end)
        if horizon > coverage.begin:
            coverage, code = Coverage(begin=horizon, end=coverage.end), "RETENTION"
            reason = f"detections older than {_span(retention_s)} are not kept"
        gaps = store.gaps(coverage.begin, coverage.end) if coverage.begin < coverage.end else ()
        if gaps and not code:
            code = "CLASS_RETENTION"
            reason = "; ".join(f"{g.rule} is not kept from before {instants.to_text(g.end)}" for g in gaps[:MAX_GAPS])
        if not code and _has_circle(disclosed.query) and store.unplaced(coverage.begin, coverage.end):
            code, reason = "NO_LOCATION", "cameras that tell no location are in no circle: ask for them by --camera"
    if len(matches) > MAX_DETECTIONS:
        first_left_out = matches[MAX_DETECTIONS].detection.captured_at
        matches = matches[:MAX_DETECTIONS]
        coverage = Coverage(begin=max(coverage.begin, first_left_out + _MS), end=coverage.end)
        code = "TOO_MANY"
        reason = f"more than {MAX_DETECTIONS} detections: ask for an earlier window to see the rest"
    if cameras.some_left_out:
        code, reason = code or "CAMERAS_LEFT_OUT", f"{reason}; {LEFT_OUT}" if reason else LEFT_OUT
    # Nothing outside what is said to have been searched is released.
    released = [m for m in matches if coverage.begin <= m.detection.captured_at < coverage.end]
    return Found(
        detections=tuple(redact(m, obligations.redaction, agency) for m in released),
        coverage=coverage,
        reason_code=code,
        reason=reason,
        oldest_at=min((m.detection.captured_at for m in released), default=None),
    )


def check_releasable(query: Query, redaction: Redaction) -> None:
    """Return if what fits `query` may be told at this level.

    A plate found in a place was in that place: leaving the camera and the location out of the detection hides
    neither, where the query names them.

    Raises:
        Withheld: it may not.
    """
    if not isinstance(query, AreaQuery) or redaction < Redaction.COARSE_LOCATION:
        return
    if redaction > Redaction.COARSE_LOCATION:
        raise Withheld("policy does not release places to this search")
    if query.circle is None or query.circle.radius_m < MIN_COARSE_RADIUS_M:
        raise Withheld(f"policy releases rounded places only: ask for a circle of {MIN_COARSE_RADIUS_M} m or more")


def check_cameras(query: Query, cameras: Cameras) -> None:
    """Return if what fits `query` may be told without the cameras that are left out.

    What travels with a plate is told from every camera that saw them together: it would tell of those as well.

    Raises:
        Withheld: it may not.
    """
    if isinstance(query, ConvoyQuery) and cameras.some_left_out:
        raise Withheld(f"{LEFT_OUT}, and a convoy is told from all of them", reason="CAMERAS_LEFT_OUT")


def _has_circle(query: Query) -> bool:
    return isinstance(query, AreaQuery) and query.circle is not None


def _find_of(
    cameras: Cameras, store: DetectionStore, act: Act, query: Query, span: Coverage
) -> tuple[list[Match], dt.datetime]:
    """As `_find`, of these cameras: where the answer ends may not tell how often and when the others saw the plate."""
    matches, whole_from = _find(store, act, query, span)
    if not cameras.some_left_out:
        return matches, whole_from
    out: list[Match] = []
    for _ in range(MAX_LOOKS):
        if len(matches) <= MAX_DETECTIONS:
            return [*out, *_by(cameras, matches)], whole_from
        oldest = matches[-1].detection.captured_at  # of that millisecond there may be more
        out += _by(cameras, [m for m in matches if m.detection.captured_at > oldest])
        if len(out) > MAX_DETECTIONS or matches[0].detection.captured_at == oldest:
            break
        matches, _ = _find(store, act, query, Coverage(begin=span.begin, end=oldest + _MS))
    return out, whole_from if len(out) > MAX_DETECTIONS else oldest + _MS


def _by(cameras: Cameras, matches: list[Match]) -> list[Match]:
    return [m for m in matches if m.detection.camera in cameras]


def _find(store: DetectionStore, act: Act, query: Query, span: Coverage) -> tuple[list[Match], dt.datetime]:
    """What fits `query` in `span`, and the time from which on that is all."""
    bounds = span.begin, span.end, MAX_DETECTIONS
    match query:
        case PlateQuery(plate=plate):
            find = store.exact if act is Act.EXACT else store.confusable
            return find(plate, *bounds), span.begin
        case PatternQuery():
            return store.partial(query, *bounds), span.begin
        case AreaQuery():
            return store.area(query, *bounds), span.begin
        case ConvoyQuery():
            return _convoy(store, query, span)
    assert_never(query)


def _convoy(store: DetectionStore, query: ConvoyQuery, span: Coverage) -> tuple[list[Match], dt.datetime]:
    sightings = [m.detection for m in store.exact(query.plate, span.begin, span.end, MAX_SIGHTINGS)]
    begin = span.begin
    if len(sightings) > MAX_SIGHTINGS:
        begin = min(span.end, sightings[MAX_SIGHTINGS].captured_at + _MS)
        sightings = [d for d in sightings if d.captured_at >= begin]
    if not sightings:
        return [], begin
    return store.convoy(query, sightings, begin, span.end, MAX_DETECTIONS), begin


def _span(seconds: int) -> str:
    return f"{seconds // 86400} days" if seconds >= 86400 else f"{seconds} seconds"
