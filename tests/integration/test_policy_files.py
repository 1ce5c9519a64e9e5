"""A node's policy file that is damaged, or not its agency's, changes nothing; a good one is taken up everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cli.demo.build import publish_policy
from comity import instants
from comity.envelope import BUNDLE_TYPE
from identity import keys
from identity.dsse import sign_with_key, verify_with_keys
from tests.integration.calls import POLICE, SEEN, Person
from tests.integration.world import World, until

NODE, OTHER = "brazos-bend-1", "llano-1"
File = Callable[[World, bytes], bytes]


@pytest.fixture
def good(federation: World) -> Iterator[bytes]:
    """The policy file in force, put back at the end."""
    path = federation.nodes[NODE].state / "policy.bundle.json"
    data = path.read_bytes()
    yield data
    taken_up = federation.entries(federation.nodes[NODE], "policy", taken_up=True)[-1]["version"]
    if path.read_bytes() != data:
        packs = federation.layout.federation.nodes[NODE].presets
        publish_policy(federation.layout, NODE, version=taken_up + 10, packs=packs, now=instants.now())
        until(
            lambda: federation.entries(federation.broker, "policy", node=NODE)[-1]["version"] == taken_up + 10,
            "the policy is put back",
        )


def _resigned(world: World, data: bytes, *, by: str, change: Callable[[bytes], bytes] = lambda p: p) -> bytes:
    own = keys.load_signing_key(world.layout.authority("us-tx-brazos-bend-pd") / "policy.pem")
    payload = verify_with_keys(data, [own.public_key()], payload_type=BUNDLE_TYPE)
    return sign_with_key(BUNDLE_TYPE, change(payload), keys.load_signing_key(world.layout.authority(by) / "policy.pem"))


def _malformed_policy(world: World, data: bytes) -> bytes:
    # Its agency really signed it, and it is no policy.
    def change(payload: bytes) -> bytes:
        return payload.replace(b"TX-1,any-node,police", b"TX-1,any-node,martians")

    return _resigned(world, data, by="us-tx-brazos-bend-pd", change=change)


def _another_nodes(world: World, data: bytes) -> bytes:
    return (world.nodes[OTHER].state / "policy.bundle.json").read_bytes()


BAD: list[tuple[str, File, set[str]]] = [
    ("an empty file", lambda w, d: b"", {"BAD_ENVELOPE"}),
    ("a half-written file", lambda w, d: d[: len(d) // 2], {"BAD_ENVELOPE"}),
    ("a file without its last byte", lambda w, d: d[:-1], {"BAD_ENVELOPE"}),
    ("a file with one byte more", lambda w, d: d + b"\n", {"BAD_ENVELOPE"}),
    ("a file that is no JSON", lambda w, d: b"p, allow, everyone\n" * 40, {"BAD_ENVELOPE"}),
    ("a file with an altered payload", lambda w, d: d.replace(b'"payload":"eyJ', b'"payload":"eyK'), {"BAD_SIGNATURE"}),
    ("a file that another agency signed", lambda w, d: _resigned(w, d, by=POLICE), {"UNKNOWN_KEY"}),
    ("another node's file", _another_nodes, {"UNKNOWN_KEY"}),
    ("a signed file that is no policy", _malformed_policy, {"POLICY_REFUSED", "BUNDLE_MALFORMED"}),
    ("a file of megabytes", lambda w, d: b" " * (3 << 20), {"BUNDLE_TOO_LARGE", "BAD_ENVELOPE"}),
]


@pytest.mark.parametrize(("file", "reasons"), [c[1:] for c in BAD], ids=[f"{c[0]} is refused" for c in BAD])
def test_a_bad_policy_file_is_refused_and_recorded_and_the_old_one_stays(
    federation: World, good: bytes, file: File, reasons: set[str]
) -> None:
    node = federation.nodes[NODE]
    old = federation.entries(node, "policy", taken_up=True)[-1]
    before, broker_before = federation.size(node), federation.size(federation.broker)
    federation.give_policy(NODE, file(federation, good))
    (entry,) = until(lambda: federation.since(node, before), "the node looked at the file")
    assert (entry["type"], entry["node"], entry["taken_up"], entry["digest"]) == ("policy", NODE, False, "")
    assert entry["reason"] in reasons
    assert federation.since(federation.broker, broker_before) == [], "a refused policy is not shown to the broker"
    told = Person.of(federation).search(Person.of(federation).ask(NODE, plate=SEEN))
    assert told.kinds == {NODE: "match"}
    assert told.outcomes[NODE].policy_digest == old["digest"]
    shown = len(federation.entries(federation.broker, "policy"))
    federation.give_policy(NODE, good)
    # The old file is a change too: it is taken up again, here and at the broker.
    until(lambda: federation.entries(node, "policy")[-1]["taken_up"], "the node is content")
    until(lambda: len(federation.entries(federation.broker, "policy")) > shown, "the broker is told")


def test_an_older_policy_does_not_come_back(federation: World, good: bytes) -> None:
    node, packs = federation.nodes[NODE], federation.layout.federation.nodes[NODE].presets
    version = federation.entries(node, "policy", taken_up=True)[-1]["version"]
    publish_policy(federation.layout, NODE, version=version + 2, packs=packs, now=instants.now())
    until(lambda: federation.entries(node, "policy", version=version + 2, taken_up=True), "the new one is taken up")
    publish_policy(federation.layout, NODE, version=version + 1, packs=packs, now=instants.now())
    until(lambda: federation.entries(node, "policy", reason="POLICY_OLDER"), "the older one is refused")
    assert federation.entries(node, "policy", taken_up=True)[-1]["version"] == version + 2


def test_a_good_new_policy_is_taken_up_by_the_node_and_then_by_the_broker(federation: World, good: bytes) -> None:
    person, node = Person.of(federation), federation.nodes[NODE]
    assert person.search(person.ask(NODE, plate=SEEN)).kinds == {NODE: "match"}
    version = federation.entries(node, "policy", taken_up=True)[-1]["version"] + 1
    # The toll operator's pack lets nobody search for a stolen car.
    publish_policy(federation.layout, NODE, version=version, packs=("toll-operator",), now=instants.now())
    mine = until(lambda: federation.entries(node, "policy", version=version, taken_up=True), "the node took it up")
    theirs = until(
        lambda: federation.entries(federation.broker, "policy", node=NODE, version=version, taken_up=True),
        "the broker took it up",
    )
    assert mine[0]["digest"] == theirs[0]["digest"]
    before = federation.size(node)
    told = person.search(person.ask(NODE, plate=SEEN))
    assert told.kinds == {NODE: "refused"}
    assert told.outcomes[NODE].policy_digest == mine[0]["digest"]
    assert federation.size(node) == before, "the broker refuses for the node, and does not ask it"
