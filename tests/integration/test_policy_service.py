"""PolicyService over real processes: who may publish what, what comes of it, and what is told of policies."""

from __future__ import annotations

import datetime as dt
import os
import signal
from collections.abc import Callable, Iterator

import orjson
import pytest
from click.testing import CliRunner, Result

from cli.calling import CallFailed
from cli.policy import policy
from comity import instants
from comity.v1 import decision_pb2, inquiry_pb2
from comity.v1 import policy_service_pb2 as pb2
from tests.integration.calls import POLICE, SEEN, Person, comity
from tests.integration.conftest import NewWorld
from tests.integration.policies import bundle, called, publish
from tests.integration.world import BROKER_1, SEARCH_TICK_S, World, attachments, ready, until

NODE, AGENCY = "brazos-bend-1", "us-tx-brazos-bend-pd"
WITNESSES = ("port-alder-1", "sequoia-1")  # without which the broker releases nothing while the node is away
SILENT = ("toll-operator",)  # it lets nobody search for a stolen car


@pytest.fixture(scope="module")
def world(new_world: NewWorld) -> Iterator[World]:
    """One broker and the node whose policy is changed; it looks for a new file only when it is told to."""
    world = new_world()
    path = world.nodes[NODE].state / "node.toml"
    path.write_text(path.read_text().replace("renew_every_s = 0.1", "renew_every_s = 3600.0"))
    world.start(NODE, *WITNESSES)
    yield world
    assert world.faults(world.broker, *(world.nodes[n] for n in (NODE, *WITNESSES))) == {}


@pytest.fixture
def supervisor(world: World) -> Person:
    return Person.of(world, AGENCY, "supervisor")


@pytest.fixture
def searcher(world: World) -> Person:
    return Person.of(world)


@pytest.fixture
def version(world: World) -> int:
    """One that is higher than any that broker or node has heard of."""
    seen = [e["version"] for p in (world.broker, world.nodes[NODE]) for e in world.entries(p, "policy", node=NODE)]
    return int(max(seen)) + 1


BAD: list[tuple[str, Callable[[World, int], bytes], str, str]] = [
    ("one that is half-written", lambda w, v: bundle(w, NODE, v)[:-40], "INVALID_ARGUMENT", "BAD_ENVELOPE"),
    ("one that nobody signed", lambda w, v: b'{"payload":"","payloadType":"","signatures":[]}', "INVALID_ARGUMENT", ""),
    ("one that another agency signed", lambda w, v: bundle(w, NODE, v, by=POLICE), "UNAUTHENTICATED", "UNKNOWN_KEY"),
    ("one of another node", lambda w, v: bundle(w, "llano-1", v, by=AGENCY), "INVALID_ARGUMENT", "WRONG_NODE"),
    (
        "one that is not valid yet",
        lambda w, v: bundle(w, NODE, v, valid_from=instants.now() + dt.timedelta(hours=1)),
        "INVALID_ARGUMENT",
        "BUNDLE_NOT_YET_VALID",
    ),
    ("one that is larger than any policy", lambda w, v: b" " * (2 * 1024 * 1024 + 1), "INVALID_ARGUMENT", ""),
]


@pytest.mark.parametrize(("make", "code", "reason"), [b[1:] for b in BAD], ids=[f"{b[0]} is refused" for b in BAD])
def test_a_bad_bundle_is_refused_and_recorded_with_who_brought_it_and_the_old_one_stays(
    world: World,
    supervisor: Person,
    searcher: Person,
    version: int,
    make: Callable[[World, int], bytes],
    code: str,
    reason: str,
) -> None:
    before = world.size(world.broker)
    told = publish(supervisor, NODE, make(world, version))
    assert told[0] == code
    assert told[1] == reason or (not reason and told[1])
    (entry,) = world.since(world.broker, before)
    assert (entry["type"], entry["taken_up"], entry["reason"]) == ("policy", False, told[1])
    assert entry["published_by"] == str(supervisor.folder.spiffe)
    assert searcher.search(searcher.ask(NODE, plate=SEEN)).kinds == {NODE: "match"}


WHO = [
    ("an investigator of the node's agency", AGENCY, "investigator", "WRONG_ROLE"),
    ("an auditor of the node's agency", AGENCY, "auditor", "WRONG_ROLE"),
    ("a supervisor of another agency", POLICE, "supervisor", "OTHER_AGENCY"),
]


@pytest.mark.parametrize(("agency", "role", "reason"), [w[1:] for w in WHO], ids=[f"{w[0]} may not" for w in WHO])
def test_who_may_not_publish_changes_nothing_though_the_bundle_is_good(
    world: World, version: int, agency: str, role: str, reason: str
) -> None:
    before = world.size(world.broker)
    told = publish(Person.of(world, agency, role), NODE, bundle(world, NODE, version, SILENT))
    assert told[:2] == ("PERMISSION_DENIED", reason)
    assert world.size(world.broker) == before


def test_a_node_that_nobody_registered_has_no_policy(supervisor: Person, world: World, version: int) -> None:
    assert publish(supervisor, "atlantis-1", bundle(world, NODE, version))[:2] == ("INVALID_ARGUMENT", "NOT_REGISTERED")


def test_what_is_published_refuses_at_once_and_permits_only_when_the_node_stands_under_it_too(
    world: World, supervisor: Person, searcher: Person, version: int
) -> None:
    node = world.nodes[NODE]
    _, _, known = publish(supervisor, NODE, bundle(world, NODE, version, SILENT))
    assert (known.version, known.shown.version < version) == (version, True)
    before = world.size(node)
    told = searcher.search(searcher.ask(NODE, plate=SEEN))
    assert (told.kinds, told.reasons) == ({NODE: "refused"}, {NODE: "DENIED_BY_RULE"})
    assert world.size(node) == before, "the broker refuses by the published policy, and does not ask the node"
    (entry,) = world.entries(world.broker, "policy", version=version)
    assert entry["published_by"] == str(supervisor.folder.spiffe)
    # The next permits again; the node has neither, so it refuses what it is asked, and says why.
    publish(supervisor, NODE, bundle(world, NODE, version + 1))
    told = searcher.search(searcher.ask(NODE, plate=SEEN))
    assert (told.kinds, told.reasons) == ({NODE: "refused"}, {NODE: "POLICY_CHANGED"})
    assert told.outcomes[NODE].policy_digest == world.entries(node, "policy", taken_up=True)[-1]["digest"]


def test_a_skew_makes_the_node_look_at_once_and_both_agree_without_a_restart(
    world: World, supervisor: Person, searcher: Person, version: int
) -> None:
    node = world.nodes[NODE]
    other = bundle(world, NODE, version)
    publish(supervisor, NODE, other)
    told = searcher.search(searcher.ask(NODE, plate=SEEN))
    assert (told.kinds, told.reasons) == ({NODE: "refused"}, {NODE: "POLICY_CHANGED"})
    assert world.entries(node, "decision", reason_code="POLICY_CHANGED")
    # Its own look would come in an hour; the broker's question, asked when the answer came, is what makes it look.
    world.give_policy(NODE, other)
    until(
        lambda: searcher.search(searcher.ask(NODE, plate=SEEN)).kinds == {NODE: "match"},
        "both agree",
        every_s=SEARCH_TICK_S,
    )
    assert world.entries(node, "policy", version=version, taken_up=True)


def test_a_signal_makes_a_node_look_for_its_policy(world: World, version: int) -> None:
    node = world.nodes[NODE]
    world.give_policy(NODE, bundle(world, NODE, version))
    pid = node.pid
    assert pid is not None
    os.kill(pid, signal.SIGHUP)
    until(lambda: world.entries(world.broker, "policy", version=version, taken_up=True), "the broker has it")
    assert world.entries(node, "policy", version=version, taken_up=True)
    assert node.pid == pid


def test_a_node_that_comes_back_under_an_older_policy_is_present_and_decided_on_under_the_newer(
    world: World, supervisor: Person, searcher: Person, version: int
) -> None:
    publish(supervisor, NODE, bundle(world, NODE, version))
    world.kill(world.nodes[NODE], signal.SIGTERM)
    world.restart(NODE)
    assert world.entries(world.broker, "policy", taken_up=False, reason="POLICY_OLDER")
    told = searcher.search(searcher.ask(NODE, plate=SEEN))
    assert (told.kinds, told.reasons) == ({NODE: "refused"}, {NODE: "POLICY_CHANGED"})


def test_the_command_publishes_and_says_whether_the_node_agrees(world: World, version: int) -> None:
    path = world.root / "new.bundle.json"
    path.write_bytes(bundle(world, NODE, version))
    arguments = ("policy", "publish", str(path), "--node", NODE, "--broker", world.address, "--identity")
    me = str(world.layout.identity(AGENCY, "supervisor"))
    early = comity(*arguments, me, "--wait", "0", "--json")
    assert (early.code, early.lines[0]["agree"], early.lines[0]["version"]) == (3, False, version)
    world.give_policy(NODE, path.read_bytes())
    late = comity(*arguments, me, "--wait", "100")
    assert late.code == 0, late.err
    assert "the node stands under it" in late.out
    refused = comity(*arguments, str(world.layout.identity(AGENCY, "auditor")))
    assert (refused.code, "[WRONG_ROLE]" in refused.err, refused.out) == (1, True, "")


def test_a_killed_broker_decides_by_what_was_published_as_soon_as_it_is_back(
    world: World, supervisor: Person, searcher: Person, version: int
) -> None:
    publish(supervisor, NODE, bundle(world, NODE, version, SILENT))
    attached = {n: len(attachments(world.nodes[n], BROKER_1)) for n in (NODE, *WITNESSES)}
    world.kill(world.broker)
    world.broker.start()
    for node, times in attached.items():
        world.attached(world.nodes[node], times + 1)
    ready(world.broker, "releasing")
    told = searcher.search(searcher.ask(NODE, plate=SEEN))
    assert (told.kinds, told.reasons) == ({NODE: "refused"}, {NODE: "DENIED_BY_RULE"})
    assert len(world.entries(world.broker, "policy", version=version)) == 2, "each run says what it decides by"


def test_what_was_revoked_is_not_let_in_again(world: World, supervisor: Person, version: int) -> None:
    node = world.nodes[NODE]
    world.give_policy(NODE, bundle(world, NODE, version))
    pid = node.pid
    assert pid is not None
    os.kill(pid, signal.SIGHUP)
    until(lambda: world.entries(world.broker, "policy", version=version, taken_up=True), "the node shows it")
    _, _, known = publish(supervisor, NODE, bundle(world, NODE, version + 1), revoke_older=True)
    assert known.minimum == version + 1
    assert world.entries(world.broker, "policy", version=version + 1, revoked_below=version + 1)
    until(lambda: world.entries(world.broker, "policy", reason="POLICY_REVOKED"), "the node is turned away")
    told = Person.of(world).search(Person.of(world).ask(NODE, plate=SEEN))
    assert told.kinds == {NODE: "unreachable"}
    assert publish(supervisor, NODE, bundle(world, NODE, version))[:2] == ("INVALID_ARGUMENT", "POLICY_OLDER")
    world.give_policy(NODE, bundle(world, NODE, version + 2))
    os.kill(pid, signal.SIGHUP)
    until(
        lambda: Person.of(world).search(Person.of(world).ask(NODE, plate=SEEN)).kinds == {NODE: "match"},
        "the node is back with what is not revoked",
        every_s=SEARCH_TICK_S,
    )


def asked(*nodes: str, purpose: str = "stolen-vehicle", **changes: object) -> pb2.ExplainRequest:
    request = pb2.ExplainRequest(
        nodes=nodes,
        purpose_of_use=inquiry_pb2.PurposeOfUse(code=purpose, legal_basis=inquiry_pb2.LEGAL_BASIS_CRIMINAL),
        authority=inquiry_pb2.AUTHORITY_NONE,
        act=inquiry_pb2.ACT_EXACT,
        has_case=True,
        lookback_days=20,
    )
    for name, value in changes.items():
        setattr(request, name, value)
    return request


def test_an_explanation_decides_as_the_search_does_and_says_what_would_permit_it(world: World) -> None:
    person = Person.of(world)
    code, _, answer = called(person, lambda s: s.Explain(asked(NODE), timeout=60))
    assert code == "OK"
    (one,) = answer.explanations
    (decided,) = person.preview(person.ask(NODE))[2].decisions
    assert (one.decision.effect, one.decision.reason) == (decided.effect, decided.reason)
    assert [r.rule for r in one.decision.rules] == [r.rule for r in decided.rules]
    assert {r.party for r in (*one.applied, *one.near_misses)} == {POLICE}, "it is about the caller alone"
    assert all(r.basis for r in one.applied)


def test_a_refusal_is_explained_with_its_remedies(world: World) -> None:
    code, _, answer = called(Person.of(world), lambda s: s.Explain(asked(NODE, has_case=False), timeout=60))
    (one,) = answer.explanations
    assert (code, one.decision.effect) == ("OK", decision_pb2.EFFECT_DENY)
    assert ["with a case number"] in [list(r.changes) for r in one.remedies]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        pytest.param(asked(), "BAD_REQUEST", id="no node"),
        pytest.param(asked(*(f"n-{i}" for i in range(21))), "BAD_REQUEST", id="too many nodes"),
        pytest.param(asked("atlantis-1"), "NOT_REGISTERED", id="a node that nobody registered"),
        pytest.param(asked(NODE, act=0), "BAD_REQUEST", id="no kind of search"),
        pytest.param(asked(NODE, authority=99), "BAD_REQUEST", id="an authority that does not exist"),
        pytest.param(asked(NODE, beneficiary="x" * 100_000), "BAD_REQUEST", id="a name of a hundred thousand letters"),
    ],
)
def test_a_malformed_question_is_refused_with_its_reason(
    world: World, request_: pb2.ExplainRequest, reason: str
) -> None:
    assert called(Person.of(world), lambda s: s.Explain(request_, timeout=60))[:2] == ("INVALID_ARGUMENT", reason)


def test_an_auditor_reads_the_whole_matrix_page_by_page_and_it_agrees_with_what_is_explained(world: World) -> None:
    auditor = Person.of(world, AGENCY, "auditor")
    request = pb2.MatrixRequest(nodes=[NODE, "llano-1"], page_size=100)
    cells, pages, unknown = [], 0, set()
    while True:
        code, _, page = called(auditor, lambda s: s.Matrix(request, timeout=60))
        assert code == "OK"
        cells += [(c.agency, c.node, c.purpose) for c in page.cells]
        unknown |= set(page.unknown_nodes)
        pages += 1
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert pages == -(-page.total_cells // 100)
    assert len(cells) == len(set(cells))
    assert (POLICE, NODE, "stolen-vehicle") in cells
    assert unknown == {"llano-1"}, "a node that never showed its policy is not said to refuse"
    whole = called(auditor, lambda s: s.Matrix(pb2.MatrixRequest(nodes=[NODE], page_size=2000), timeout=60))[2]
    assert [(c.agency, c.node, c.purpose) for c in whole.cells] == [c for c in cells if c[1] == NODE]


def test_only_an_auditor_reads_the_matrix(world: World) -> None:
    told = called(Person.of(world), lambda s: s.Matrix(pb2.MatrixRequest(), timeout=60))
    assert told[:2] == ("PERMISSION_DENIED", "WRONG_ROLE")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        pytest.param(pb2.MatrixRequest(page_size=2_001), "BAD_REQUEST", id="a page too large"),
        pytest.param(pb2.MatrixRequest(page_token="100.0000000000000000"), "STALE_PAGE", id="a page of other policies"),
        pytest.param(pb2.MatrixRequest(page_token="x" * 1000), "STALE_PAGE", id="a token that is none"),
        pytest.param(pb2.MatrixRequest(agencies=["atlantis-pd"]), "NOT_REGISTERED", id="an agency that does not exist"),
    ],
)
def test_a_malformed_page_is_refused_with_its_reason(world: World, request_: pb2.MatrixRequest, reason: str) -> None:
    auditor = Person.of(world, AGENCY, "auditor")
    assert called(auditor, lambda s: s.Matrix(request_, timeout=60))[:2] == ("INVALID_ARGUMENT", reason)


def test_the_commands_tell_a_person_why_and_an_auditor_who_under_what_is_published(
    world: World, supervisor: Person, version: int
) -> None:
    def run(role: str, *arguments: str) -> Result:
        me = ("--identity", str(world.layout.identity(POLICE, role)), "--broker", world.address)
        return CliRunner().invoke(policy, (*arguments, *me))

    ask = ("why", "--purpose", "stolen-vehicle", "--node", NODE)
    cell = ("who", "--node", NODE, "--agency", POLICE, "--purpose", "stolen-vehicle")
    publish(supervisor, NODE, bundle(world, NODE, version))
    opened, shown = run("investigator", *ask, "--json"), run("auditor", *cell, "--json")
    told = orjson.loads(opened.output)
    assert (opened.exit_code, told["verdict"], told["node"]) == (0, "permitted", NODE)
    assert orjson.loads(shown.output)["agency"] == POLICE
    assert run("auditor", *cell).output.startswith(f"{POLICE} at {NODE}, stolen-vehicle: ")
    publish(supervisor, NODE, bundle(world, NODE, version + 1, SILENT))
    closed, none = run("investigator", *ask), run("auditor", *cell)
    assert (closed.exit_code, closed.output.startswith(f"REFUSED at {NODE}")) == (1, True)
    assert (none.exit_code, none.output) == (0, "")
    refused = run("investigator", *cell).exception
    assert isinstance(refused, CallFailed)
    assert refused.reason == "WRONG_ROLE"
