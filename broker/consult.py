"""What the policies that the broker decides by mean, for whoever asks: why one search, and who may see what.

Nothing is decided and nobody is asked. A person is told about their own searches alone.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import TypeVar

from broker.links import Links
from broker.ports import Clock
from comity.errors import InvalidInput, Unavailable, Violation
from comity.inquiry import has_unknown_fields
from comity.purpose import ACT_FROM_WIRE, AUTHORITY_FROM_WIRE, LEGAL_BASIS_FROM_WIRE
from comity.v1 import policy_service_pb2 as pb2
from identity.verify import Identity
from policies.decide import Decider
from policies.engine import Policy
from policies.explain import Explanation, explain
from policies.instance import Request
from policies.matrix import Matrix, Way
from policies.setting import Setting

MOST_NODES = 20  # of one explanation: what would permit a search is sought among thousands of others
MOST_LOOKBACK_DAYS = 36_500
MOST_CHARACTERS = 200  # of one name
DEFAULT_CELLS, MOST_CELLS = 500, 2_000
_T = TypeVar("_T")
_Versions = tuple[dt.date, tuple[tuple[str, Policy | None], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A search of the caller's that was not made, at each of `requests`' nodes."""

    requests: tuple[Request, ...]

    @classmethod
    def parse(cls, m: pb2.ExplainRequest, by: Identity) -> Doubt:
        """What `by` would ask; the requester is nobody else.

        Raises:
            InvalidInput: naming every bad field.
        """
        bad: list[Violation] = []
        purpose = m.purpose_of_use
        basis = LEGAL_BASIS_FROM_WIRE.get(purpose.legal_basis)
        authority, act = AUTHORITY_FROM_WIRE.get(m.authority), ACT_FROM_WIRE.get(m.act)
        for field, known in (("purpose_of_use.legal_basis", basis), ("authority", authority), ("act", act)):
            if known is None:
                bad.append(Violation(field, "must be set to a known value"))
        if not 1 <= len(m.nodes) <= MOST_NODES or len(set(m.nodes)) != len(m.nodes):
            bad.append(Violation("nodes", f"must be 1 to {MOST_NODES} different nodes"))
        if m.lookback_days > MOST_LOOKBACK_DAYS:
            bad.append(Violation("lookback_days", f"must be at most {MOST_LOOKBACK_DAYS}"))
        names = {"beneficiary": m.beneficiary, "purpose_of_use.code": purpose.code}
        for field, text in (names | {"purpose_of_use.offence": purpose.offence}).items():
            if len(text) > MOST_CHARACTERS:
                bad.append(Violation(field, f"must be at most {MOST_CHARACTERS} characters"))
        if not purpose.code:
            bad.append(Violation("purpose_of_use.code", "must be set"))
        if has_unknown_fields(m):
            bad.append(Violation("(message)", "has a field that this version does not know"))
        if bad or basis is None or authority is None or act is None:
            raise InvalidInput("not a search to explain", violations=bad, reason="BAD_REQUEST")
        one = Request(
            requester=by.agency,
            role=by.role,
            beneficiary=m.beneficiary or by.agency,
            purpose=purpose.code,
            legal_basis=basis,
            authority=authority,
            act=act,
            has_case=m.has_case,
            lookback_days=m.lookback_days,
            node="",
            approved=m.approved,
            offence=purpose.offence,
            person=str(by.spiffe),
        )
        return cls(requests=tuple(_at(one, node) for node in m.nodes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One agency at one node for one purpose; any one of `ways` will do."""

    agency: str
    node: str
    purpose: str
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some cells in order, those alone in which a search is ever permitted. `next_token`: empty on the last page."""

    cells: tuple[Cell, ...]
    next_token: str
    unknown: tuple[str, ...]
    total: int


class Consulting:
    """Answers one question at a time in a thread: searches go before whoever only wants to know."""

    def __init__(self, decider: Decider, links: Links, clock: Clock) -> None:
        self._decider = decider
        self._links = links
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="consult")
        self._matrix: tuple[_Versions, Matrix] | None = None

    async def explain(self, doubt: Doubt, within_s: float) -> tuple[Explanation, ...]:
        """Why each would be permitted or refused under what the broker decides by now; in order.

        Raises:
            InvalidInput: a node that is not registered (NOT_REGISTERED).
            Unavailable: TOO_SLOW.
        """
        setting, day, _ = self._setting()
        if any(r.node not in setting.federation.nodes for r in doubt.requests):
            what = Violation("nodes", "must be registered in the directory")
            raise InvalidInput("not a search to explain", violations=[what], reason="NOT_REGISTERED")
        return await self._worked_out(lambda: tuple(explain(setting, r, day) for r in doubt.requests), within_s)

    async def matrix(self, m: pb2.MatrixRequest, within_s: float) -> Page:
        """One page of who may search which node for what.

        Raises:
            InvalidInput: a name that is not registered, a page too large, or a token of another question or of
                policies that have changed since (STALE_PAGE).
            Unavailable: TOO_SLOW.
        """
        return await self._worked_out(lambda: self._page(m), within_s)

    def _page(self, m: pb2.MatrixRequest) -> Page:
        if m.page_size > MOST_CELLS:
            what = Violation("page_size", f"must be at most {MOST_CELLS}")
            raise InvalidInput("not a page", violations=[what], reason="BAD_REQUEST")
        setting, day, versions = self._setting()
        if self._matrix is None or self._matrix[0] != versions:
            self._matrix = versions, Matrix(setting, day)
        matrix = self._matrix[1]
        words = setting.vocabulary
        agencies = _chosen("agencies", m.agencies, words.who.leaves)
        nodes = _chosen("nodes", m.nodes, setting.federation.nodes)
        purposes = _chosen("purposes", m.purposes, words.purpose.leaves)
        of = _mark(versions, agencies, nodes, purposes)
        total = len(agencies) * len(nodes) * len(purposes)
        begin, size = _begin(m.page_token, of, total), m.page_size or DEFAULT_CELLS
        # Nodes outermost: what is not known of one fills few pages.
        asked = list(islice(product(nodes, agencies, purposes), begin, begin + size))
        cells = (Cell(agency=a, node=n, purpose=p, ways=matrix.ways(a, n, p)) for n, a, p in asked)
        unknown = sorted({n for n, _, _ in asked if setting.node_policies[n] is None})
        end = begin + len(asked)
        return Page(
            cells=tuple(c for c in cells if c.ways),
            next_token=f"{end}.{of}" if end < total else "",
            unknown=tuple(unknown),
            total=total,
        )

    def _setting(self) -> tuple[Setting, dt.date, _Versions]:
        decider, now = self._decider, self._clock()
        known = tuple(self._links.with_policies(sorted(decider.federation.nodes), now))
        setting = Setting(
            federation=decider.federation,
            vocabulary=decider.vocabulary,
            federation_policy=decider.federation_policy,
            node_policies=dict(known),
        )
        return setting, now.date(), (now.date(), known)

    async def _worked_out(self, work: Callable[[], _T], within_s: float) -> _T:
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except TimeoutError:
            raise Unavailable("not worked out in time: ask for less at once", reason="TOO_SLOW") from None


def _at(one: Request, node: str) -> Request:
    return replace(one, node=node)


def _chosen(field: str, names: Sequence[str], registered: Collection[str]) -> tuple[str, ...]:
    # The names are not repeated: they came from outside, and may be long.
    if any(name not in registered for name in names):
        what = Violation(field, "must be registered in the directory")
        raise InvalidInput("not a question about this federation", violations=[what], reason="NOT_REGISTERED")
    return tuple(dict.fromkeys(names)) if names else tuple(sorted(registered))


def _mark(versions: _Versions, *names: Sequence[str]) -> str:
    """The same as long as the question and every policy are."""
    day, known = versions
    told = [str(day), *(f"{n} {p.digest if p else ''}" for n, p in known), *("\n".join(part) for part in names)]
    return hashlib.sha256("\n\n".join(told).encode()).hexdigest()[:16]


def _begin(token: str, of: str, total: int) -> int:
    if not token:
        return 0
    at, _, mark = token.partition(".")
    if not at.isascii() or not at.isdigit() or len(at) > 12 or not 0 < int(at) < total or mark != of:
        raise InvalidInput("this page is of another question, or policies have changed", reason="STALE_PAGE")
    return int(at)
