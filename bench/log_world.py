"""What the log benchmark records: searches with real certificates and signatures, and the commits that one makes."""

from __future__ import annotations

import datetime as dt
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import entry
from audit.entry import Draft, Stamp, seal
from audit.log import DecisionLog
from audit.note import Checkpoint
from audit.store import LogFiles
from audit.tree import Tree, leaf_hash
from comity.commitment import CASE_NUMBER, QUERY, commit
from comity.decision import Decision, Effect, Layer, MatchedRule, Obligations, Pep
from comity.envelope import INQUIRY_TYPE
from comity.inquiry import Inquiry, new_inquiry_id
from comity.instants import to_text
from comity.outcome import Coverage, OutcomeKind
from comity.purpose import Act, LegalBasis, PurposeOfUse
from comity.purpose import Authority as Warrant
from identity import certificates, keys
from identity.authority import Authority
from identity.directory import Directory
from identity.names import SpiffeId
from identity.publish import sign_directory
from identity.signing import Signer

FEDERATION, AGENCY = "bench-exchange", "us-ca-bench-pd"
ORIGIN = "broker.bench.example/log"
BEGUN = dt.datetime(2030, 5, 1, 12, 0, tzinfo=dt.UTC)
PERSONS = 40
_AT_ONCE = 50_000  # entries of one transaction in bulk
ANSWERS_AT_ONCE = 8  # that a broker records in one commit, since they came together


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A federation of `nodes` nodes, and who asks them."""

    directory: Directory
    signers: tuple[Signer, ...]
    nodes: tuple[str, ...]

    @classmethod
    def make(cls, folder: Path, nodes: int) -> World:
        """Keys and certificates under `folder`, valid for a day from BEGUN."""
        names = tuple(f"node-{i}" for i in range(nodes))
        made = {
            id_: Authority.create(folder / id_, id_, at=BEGUN - dt.timedelta(days=1)) for id_ in (FEDERATION, AGENCY)
        }
        directory = sign_directory(
            made[FEDERATION],
            version=7,
            issued_at=BEGUN,
            federation=_registry(names),
            authorities={AGENCY: [made[AGENCY].certificate]},
        )
        return cls(
            directory=Directory.parse(directory, made[FEDERATION].certificate),
            signers=tuple(_person(made[AGENCY], i) for i in range(PERSONS)),
            nodes=names,
        )

    def searches(self) -> Iterator[Search]:
        """One search after another, each by the next person, a tenth of a second apart."""
        for n in itertools.count():
            yield Search.make(self, n, BEGUN + dt.timedelta(seconds=n % 400_000 / 10))


def _person(agency: Authority, number: int) -> Signer:
    key = keys.new_signing_key()
    name = SpiffeId(trust_domain=AGENCY, kind="person", id=f"p-{number}")
    leaf = agency.issue(name, key.public_key(), at=BEGUN, role="investigator")
    return Signer(key=key, chain=(certificates.der(leaf), certificates.der(agency.certificate)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search of every node: `at` is when, `number` which."""

    world: World
    number: int
    at: dt.datetime
    asked: Draft
    cited: dict[str, Any]

    @classmethod
    def make(cls, world: World, number: int, at: dt.datetime) -> Search:
        """The search as its investigator signed it."""
        person = number % len(world.signers)
        requester = f"spiffe://{AGENCY}/person/p-{person}"
        inquiry = Inquiry(
            inquiry_id=new_inquiry_id(at),
            federation=FEDERATION,
            requester=requester,
            beneficiary=AGENCY,
            purpose=PurposeOfUse(code="stolen-vehicle", legal_basis=LegalBasis.CRIMINAL, offence="felony"),
            authority=Warrant.NONE,
            act=Act.EXACT,
            begin=at - dt.timedelta(days=30),
            end=at,
            targets=(),
            issued_at=at,
            expires_at=at + dt.timedelta(minutes=5),
            nonce=number.to_bytes(16),
            query_commitment=commit(QUERY, b"s" * 32, b"query %d" % number),
            case_number_commitment=commit(CASE_NUMBER, b"s" * 32, b"case %d" % number),
            authority_reference_commitment=b"",
        )
        envelope = world.signers[person].sign(INQUIRY_TYPE, inquiry.encode())
        asked = entry.inquiry_entry(
            inquiry=inquiry,
            envelope=envelope,
            role="investigator",
            approvers=(),
            directory_version=7,
            preview=False,
            received_from=requester,
        )
        cited = {"inquiry_id": inquiry.inquiry_id, "inquiry_hash": envelope.payload_hash}
        return cls(world=world, number=number, at=at, asked=asked, cited=cited)

    def recorded(self) -> list[Draft]:
        """What the broker records before anything leaves: the inquiry and a decision a node."""
        return [self.asked, *(self.decision(i, node) for i, node in enumerate(self.world.nodes))]

    def decision(self, number: int, node: str) -> Draft:
        """The decision of one node: one in eight is refused."""
        permitted = number % 8 != 7
        decision = Decision(
            decision_id=f"0190b5a4-7a1a-7c3a-9d52-0f4b1f7f3a11-{self.number:010d}-{number}",
            node=node,
            effect=Effect.PERMIT if permitted else Effect.DENY,
            pep=Pep.BROKER,
            policy_digest=f"{number % 12:02x}" * 32,
            federation_digest="cd" * 32,
            rules=(
                MatchedRule(rule="FED-7", effect="allow", basis="a statute", layer=Layer.FEDERATION),
                MatchedRule(rule="own-3", effect="allow", basis="a statute", layer=Layer.NODE),
            ),
            obligations=Obligations(window_days=60) if permitted else Obligations(),
            reason_code="PERMITTED" if permitted else "DENIED_BY_RULE",
            reason="",
        )
        return entry.decision_entry(decision, **self.cited)

    def answered(self, slice_: slice) -> list[Draft]:
        """What the broker records of those nodes' answers: an outcome each, and a receipt of those asked."""
        drafts: list[Draft] = []
        for number, node in list(enumerate(self.world.nodes))[slice_]:
            asked = number % 8 != 7
            drafts.append(
                entry.outcome_entry(
                    **self.cited,
                    node=node,
                    outcome=OutcomeKind.NO_MATCH if asked else OutcomeKind.REFUSED,
                    count=0,
                    coverage=Coverage(begin=self.at - dt.timedelta(days=30), end=self.at) if asked else None,
                    payload_hash=bytes([number % 256]) * 32,
                    reason_code="" if asked else "DENIED_BY_RULE",
                )
            )
            if asked:
                drafts.append(_receipt(self, node))
        return drafts

    def calls(self) -> Iterator[list[Draft]]:
        """Every commit of it, in order."""
        yield self.recorded()
        for at in range(0, len(self.world.nodes), ANSWERS_AT_ONCE):
            yield self.answered(slice(at, at + ANSWERS_AT_ONCE))

    def at_node(self) -> Iterator[list[Draft]]:
        """What one node records of it: inquiry, decision and receipt, then the outcome."""
        node = self.world.nodes[0]
        yield [self.asked, self.decision(0, node), _receipt(self, node)]
        yield self.answered(slice(0, 1))[:1]


_PEER = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
_HEAD_SIZE = 1_000_000
_HEAD = Checkpoint(origin="node.bench.example/log", size=_HEAD_SIZE, root=b"r" * 32).sign(_PEER)


def _receipt(search: Search, node: str) -> Draft:
    return entry.receipt_entry(
        inquiry_id=search.cited["inquiry_id"],
        node=node,
        origin="node.bench.example/log",
        index=search.number % _HEAD_SIZE,
        leaf_hash=b"l" * 32,
        checkpoint=_HEAD,
    )


def _registry(nodes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "federation": {"id": FEDERATION, "presets": [], "witnesses": [nodes[0]], "quorum": 1},
        "purposes": {"stolen-vehicle": ""},
        "roles": {"investigator": "", "supervisor": ""},
        "jurisdictions": {"us": "", "us/ca": "us"},
        "agency": [
            {
                "id": AGENCY,
                "name": "Bench Police",
                "kind": "municipal",
                "jurisdiction": "us/ca",
                "does": ["law-enforcement"],
            }
        ],
        "node": [{"id": n, "agency": AGENCY, "source": "police", "retention_s": 86400} for n in nodes],
        "agreement": [],
    }


class Bulk:
    """Entries of many searches at once, byte for byte as the log would seal them; only the inquiry is made anew."""

    def __init__(self, world: World, *, at_node: bool = False) -> None:
        model = Search.make(world, _NUMBER, BEGUN)
        self._model = {"id": model.cited["inquiry_id"].encode(), "hash": model.cited["inquiry_hash"].hex().encode()}
        self._calls = [[self._template(d) for d in call] for call in (model.at_node() if at_node else model.calls())]

    def commits(self, search: Search) -> Iterator[Callable[[Stamp], list[bytes]]]:
        """For each commit of the search what makes its entries, given its stamp."""
        known = {
            b"id": search.cited["inquiry_id"].encode(),
            b"hash": search.cited["inquiry_hash"].hex().encode(),
            b"number": b"%010d" % search.number,
        }
        for number, templates in enumerate(self._calls):

            def made(stamp: Stamp, of: list[bytes] = templates, first: bool = number == 0) -> list[bytes]:
                values = known | {b"at": stamp.at.encode(), b"root": stamp.root.encode(), b"size": b"%d" % stamp.size}
                entries = [template % values for template in of[first:]]
                return [seal(search.asked, stamp), *entries] if first else entries

            yield made

    def _template(self, draft: Draft) -> bytes:
        """The sealed entry with a place for whatever differs from search to search."""
        entry = seal(draft, Stamp(at=to_text(BEGUN), clock_behind_ms=0, size=_SIZE, root=_ROOT)).replace(b"%", b"%%")
        places = {
            self._model["id"]: b"%(id)b",
            self._model["hash"]: b"%(hash)b",
            b"%010d" % _NUMBER: b"%(number)b",
            to_text(BEGUN).encode(): b"%(at)b",
            _ROOT.encode(): b"%(root)b",
            b'"size":%d}' % _SIZE: b'"size":%(size)b}',
        }
        for value, place in places.items():
            entry = entry.replace(value, place)
        return entry


_NUMBER, _SIZE, _ROOT = 9_999_999_998, 8_888_888_888, "e" * 64


def build(
    folder: Path,
    world: World,
    size: int,
    say: Callable[[str], None] = lambda _: None,
    *,
    at_node: bool = False,
) -> None:
    """A log of at least `size` entries in `folder`, commit by commit as a broker (or one node) would write it, but many
    at a time made durable. Nothing in it is left out: hashes, citations, side tables and the signed head are all there.
    """
    DecisionLog.create(folder, origin=ORIGIN, clock=lambda: BEGUN).close()
    where = LogFiles.locate(folder)
    key, bulk, tree = keys.load_log_key(where.key), Bulk(world, at_node=at_node), Tree()
    db = sqlite3.connect(where.db, isolation_level=None)
    db.execute("PRAGMA synchronous=OFF")
    searches, told = world.searches(), 0
    while tree.size < size:
        rows: list[tuple[int, bytes, bytes]] = []
        asked: list[tuple[str, int]] = []
        while len(rows) < _AT_ONCE and tree.size < size:
            search = next(searches)
            asked.append((search.cited["inquiry_id"], tree.size))
            for made in bulk.commits(search):
                stamp = Stamp(at=to_text(search.at), clock_behind_ms=0, size=tree.size, root=tree.root().hex())
                for data in made(stamp):
                    leaf = leaf_hash(data)
                    rows.append((tree.size, leaf, data))
                    tree.append(leaf)
        note = Checkpoint(origin=ORIGIN, size=tree.size, root=tree.root()).sign(key)
        db.execute("BEGIN")
        db.executemany("INSERT INTO leaf(idx, hash, entry) VALUES (?, ?, ?)", rows)
        db.executemany("INSERT INTO inquiry(inquiry_id, idx) VALUES (?, ?)", asked)
        db.execute("UPDATE head SET size = ?, checkpoint = ?", (tree.size, note))
        db.execute("COMMIT")
        if tree.size - told >= 1_000_000:
            told = tree.size
            say(f"  {told:,} entries")
    db.close()
