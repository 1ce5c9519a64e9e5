"""A certificate that does not prove who calls, or proves somebody else, opens nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import grpc
import pytest
from cryptography import x509

from comity import instants
from comity.v1 import node_link_service_pb2 as link
from comity.v1 import node_link_service_pb2_grpc, search_service_pb2_grpc
from identity import certificates, files, keys
from identity.authority import Authority
from identity.folder import DIRECTORY_FILE, IdentityFolder, write_identity
from identity.names import SpiffeId
from identity.tls import client_credentials
from tests.integration.calls import ANSWERED, NO_RECORD, POLICE, SEEN, Person, Told, request_of, told_of
from tests.integration.world import SEARCH_TICK_S, World, until

NODE = "port-alder-1"


def issued(
    world: World,
    folder: Path,
    name: str,
    *,
    by: str,
    role: str = "investigator",
    at: dt.datetime | None = None,
    ttl: dt.timedelta = dt.timedelta(hours=1),
    claims: str = "",
) -> IdentityFolder:
    """An identity whose certificate the authority of `by` signed, `claims` being the trust domain it plays."""
    authority = Authority.load(world.layout.authority(by))
    authority = replace(authority, trust_domain=claims or by)
    key = keys.new_signing_key()
    leaf = authority.issue(SpiffeId.parse(name), key.public_key(), at=at or instants.now(), role=role, ttl=ttl)
    return written(world, folder, [leaf, authority.certificate], key=key)


def written(world: World, folder: Path, chain: list[x509.Certificate], *, key: object) -> IdentityFolder:
    """The identity in `folder`, with the federation's directory."""
    like = world.layout.identity(POLICE, "investigator")
    write_identity(folder, key, chain, federation_pem=(like / "federation-ca.pem").read_bytes())  # type: ignore[arg-type]
    files.replace(folder / DIRECTORY_FILE, (like / DIRECTORY_FILE).read_bytes(), mode=files.PUBLIC)
    return IdentityFolder.load(folder)


def test_a_certificate_of_another_agencys_authority_proves_nobody(federation: World, tmp_path: Path) -> None:
    folder = issued(
        federation, tmp_path / "x", "spiffe://us-fbi/person/agent-1", by="us-ca-sequoia-so", claims="us-fbi"
    )
    person = Person(federation, folder)
    told = person.search(person.ask(NODE, plate=SEEN))
    assert (told.code, told.reason, told.events) == ("UNAUTHENTICATED", "WRONG_AUTHORITY", ())


def test_an_authority_that_nobody_pinned_does_not_get_past_tls(federation: World, tmp_path: Path) -> None:
    own = Authority.create(tmp_path / "ca", "us-fbi", at=instants.now())
    key = keys.new_signing_key()
    leaf = own.issue(
        SpiffeId.parse("spiffe://us-fbi/person/agent-1"), key.public_key(), at=instants.now(), role="investigator"
    )
    folder = written(federation, tmp_path / "x", [leaf, own.certificate], key=key)
    person = Person(federation, folder)
    told = person.search(person.ask(NODE))
    assert (told.code, told.events) == ("UNAVAILABLE", ())
    printed = person.command(SEEN, "--state", "CA", "--purpose", "stolen-vehicle", "--case", "X-1", "--node", NODE)
    assert printed.code == 1
    assert "NO_BROKER" in printed.err
    assert NO_RECORD not in printed.out + printed.err


def test_an_expired_certificate_does_not_get_past_tls(federation: World, tmp_path: Path) -> None:
    folder = issued(
        federation,
        tmp_path / "x",
        f"spiffe://{POLICE}/person/late-1",
        by=POLICE,
        at=instants.now() - dt.timedelta(minutes=2),
        ttl=dt.timedelta(minutes=1),
    )
    person = Person(federation, folder)
    told = person.search(person.ask(NODE))
    assert (told.code, told.events) == ("UNAVAILABLE", ())


def test_an_inquiry_signed_with_an_expired_certificate_is_refused_on_a_valid_connection(
    federation: World, tmp_path: Path
) -> None:
    person = Person.of(federation)
    old = issued(
        federation,
        tmp_path / "old",
        str(person.folder.spiffe),
        by=POLICE,
        at=instants.now() - dt.timedelta(minutes=2),
        ttl=dt.timedelta(minutes=1),
    )
    told = person.search(Person(federation, old).ask(NODE))
    assert (told.code, told.reason, told.events) == ("UNAUTHENTICATED", "CERTIFICATE_EXPIRED", ())


def test_an_open_connection_ends_with_its_certificate(federation: World, tmp_path: Path) -> None:
    # A machine that takes longer than what is left to open the connection gets a certificate that lives longer.
    for left_s in (3, 10, 30):
        at = instants.now() - dt.timedelta(seconds=60 - left_s)
        name = f"spiffe://{POLICE}/person/soon-{left_s}"
        folder = issued(federation, tmp_path / name[-2:], name, by=POLICE, at=at, ttl=dt.timedelta(minutes=1))
        told, in_time = _until_refused(Person(federation, folder), at + dt.timedelta(minutes=1))
        if in_time:
            break
    assert in_time, "it is valid when the connection is opened"
    assert (told.code, told.reason) == ("UNAUTHENTICATED", "CERTIFICATE_EXPIRED")


def _until_refused(person: Person, not_after: dt.datetime) -> tuple[Told, bool]:
    """How calls over one connection end at last, and whether the first was answered before the certificate expired."""
    with person.channel() as channel:
        stub = search_service_pb2_grpc.SearchServiceStub(channel)

        def call() -> Told | None:
            try:
                list(stub.Search(request_of(person.ask(NODE)), timeout=60))
            except grpc.RpcError as error:
                return told_of(cast(grpc.Call, error), [])
            return None

        first = call()
        in_time = instants.now() < not_after
        assert first is None or not in_time, first
        told = first or until(call, "the call was refused", every_s=SEARCH_TICK_S)
        assert told is not None
        return told, in_time


def test_a_certificate_of_a_parent_role_proves_nobody(federation: World, tmp_path: Path) -> None:
    folder = issued(federation, tmp_path / "x", f"spiffe://{POLICE}/person/all-1", by=POLICE, role="searcher")
    person = Person(federation, folder)
    told = person.search(person.ask(NODE))
    assert (told.code, told.reason, told.events) == ("UNAUTHENTICATED", "WRONG_ROLE", ())


def test_an_auditor_is_refused_by_policy_at_every_node(federation: World) -> None:
    person = Person.of(federation, role="auditor")
    before = {n: federation.size(p) for n, p in federation.nodes.items()}
    told = person.search(person.ask(plate=SEEN))
    assert told.kinds == dict.fromkeys(federation.nodes, "refused")
    table, lines = person.both(SEEN, "--state", "CA", "--purpose", "stolen-vehicle", "--case", "X-1")
    assert (table.code, lines.code) == (4, 4)
    assert NO_RECORD not in table.out
    assert not ANSWERED & set(lines.kinds.values())
    assert {n: federation.size(p) for n, p in federation.nodes.items()} == before


def test_a_nodes_certificate_may_not_search(federation: World) -> None:
    node = Person(federation, IdentityFolder.load(federation.nodes[NODE].state / "identity"))
    signed = Person.of(federation).ask(NODE)
    told = node.search(signed)
    assert (told.code, told.reason, told.events) == ("PERMISSION_DENIED", "WRONG_KIND", ())
    own = node.search(replace(signed, envelope=node.folder.signer.sign(signed.envelope.payload_type, b"x")))
    assert (own.code, own.reason) == ("PERMISSION_DENIED", "WRONG_KIND")


def test_a_brokers_certificate_may_not_search(federation: World) -> None:
    broker = Person(federation, IdentityFolder.load(federation.second.state / "identity"))
    told = broker.search(Person.of(federation).ask(NODE))
    # Callers' certificates come from agencies; the federation's authority is none.
    assert (told.code, told.events) == ("UNAVAILABLE", ())


@pytest.mark.parametrize("role", ["investigator", "supervisor"])
def test_a_persons_certificate_may_not_attach_as_a_node(federation: World, role: str) -> None:
    code, reason = attach(federation, federation.identity(POLICE, role), NODE, b"")
    assert (code, reason) == ("PERMISSION_DENIED", "WRONG_KIND")


def test_a_node_may_not_attach_as_another_node(federation: World) -> None:
    folder = IdentityFolder.load(federation.nodes["llano-1"].state / "identity")
    bundle = (federation.nodes[NODE].state / "policy.bundle.json").read_bytes()
    assert attach(federation, folder, NODE, bundle) == ("UNAUTHENTICATED", "WRONG_NODE")


def test_a_node_may_not_attach_under_another_agencys_policy(federation: World) -> None:
    folder = IdentityFolder.load(federation.nodes["llano-1"].state / "identity")
    other = (federation.nodes[NODE].state / "policy.bundle.json").read_bytes()
    before = federation.size(federation.broker)
    assert attach(federation, folder, "llano-1", other) == ("UNAUTHENTICATED", "UNKNOWN_KEY")
    (entry,) = federation.since(federation.broker, before)
    assert (entry["type"], entry["node"], entry["taken_up"], entry["reason"]) == (
        "policy",
        "llano-1",
        False,
        "UNKNOWN_KEY",
    )
    assert Person.of(federation).search(Person.of(federation).ask("llano-1")).kinds == {"llano-1": "no_match"}


def test_an_agencys_certificate_in_a_brokers_name_deceives_no_client(federation: World, tmp_path: Path) -> None:
    # A node's certificate is fit to serve TLS with, and is its agency's, not the federation's.
    node = IdentityFolder.load(federation.nodes[NODE].state / "identity")
    assert certificates.pem(*node.chain) not in node.federation_pem()
    told = Person(federation, federation.identity(POLICE), address=federation.ingest_address).search(
        Person.of(federation).ask(NODE)
    )
    assert (told.code, told.events) == ("UNAVAILABLE", ())


def attach(world: World, folder: IdentityFolder, node: str, bundle: bytes) -> tuple[str, str]:
    """Code and reason with which the broker ends such an attachment."""

    def hello() -> Iterator[link.AttachRequest]:
        yield link.AttachRequest(items=[link.NodeItem(hello=link.Hello(node=node, bundle=bundle))])

    with grpc.secure_channel(world.nodes_address, client_credentials(folder)) as channel:
        try:
            list(node_link_service_pb2_grpc.NodeLinkServiceStub(channel).Attach(hello(), timeout=60))
        except grpc.RpcError as error:
            told = told_of(cast(grpc.Call, error), [])
            return told.code, told.reason
    return "OK", ""
