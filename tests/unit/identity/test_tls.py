"""Mutual TLS really made on loopback, both ways round."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from comity.errors import ConfigError, NotAuthentic
from identity.authority import Authority
from identity.certificates import fingerprint
from identity.directory import Directory
from identity.folder import IdentityFolder
from identity.tls import client_credentials, peer_pem, server_credentials
from identity.verify import verify_peer_pem
from tests.unit.identity.world import ALDER, BRAZOS, FEDERATION, World, name

# TLS itself reads the machine's clock, so these certificates must be valid now.
AT = dt.datetime.now(dt.UTC)
BROKER = name(FEDERATION, "broker", "b1")


class WhoAmI(grpc.GenericRpcHandler):
    """Answers every call with the caller's name, or with the reason why it has none."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_unary_rpc_method_handler(self.answer)

    async def answer(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            return str(verify_peer_pem(peer_pem(context.auth_context()), self.directory, AT).spiffe).encode()
        except NotAuthentic as e:
            return e.reason.encode()


@pytest.fixture
def own(tmp_path: Path) -> World:
    return World.make(tmp_path, AT)


@asynccontextmanager
async def serving(
    folder: IdentityFolder, directory: Directory, roots: Sequence[x509.Certificate]
) -> AsyncIterator[str]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((WhoAmI(directory),))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(folder, roots))
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def ask(address: str, credentials: grpc.ChannelCredentials) -> str:
    async with grpc.aio.secure_channel(address, credentials) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/who/Am")
        return (await call(b"", timeout=120)).decode()


async def refused(address: str, credentials: grpc.ChannelCredentials) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as e:
        await ask(address, credentials)
    return e.value.code()


async def test_a_person_and_a_broker_recognise_one_another(own: World) -> None:
    directory = own.directory()
    broker = own.folder(own.federation, BROKER, hosts=["127.0.0.1"])
    person = own.folder(own.alder, name(ALDER, "person", "t-reyes"), role="investigator")
    async with serving(broker, directory, directory.agency_authorities) as address:
        assert await ask(address, client_credentials(person)) == f"spiffe://{ALDER}/person/t-reyes"


async def test_a_person_of_an_unknown_authority_does_not_get_in(own: World, tmp_path: Path) -> None:
    directory = own.directory()
    broker = own.folder(own.federation, BROKER, hosts=["127.0.0.1"])
    stranger = Authority.create(tmp_path / "stranger", ALDER, at=AT - dt.timedelta(days=1))
    person = own.folder(stranger, name(ALDER, "person", "t-reyes"), role="investigator")
    async with serving(broker, directory, directory.agency_authorities) as address:
        assert await refused(address, client_credentials(person)) is grpc.StatusCode.UNAVAILABLE


async def test_a_caller_without_a_certificate_does_not_get_in(own: World) -> None:
    directory = own.directory()
    broker = own.folder(own.federation, BROKER, hosts=["127.0.0.1"])
    nobody = grpc.ssl_channel_credentials(root_certificates=broker.federation_pem())
    async with serving(broker, directory, directory.agency_authorities) as address:
        assert await refused(address, nobody) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("agency", [ALDER, BRAZOS], ids=["its own person", "another agency's person"])
async def test_an_agency_cannot_play_the_broker_for(own: World, agency: str) -> None:
    directory = own.directory()
    authority = {ALDER: own.alder, BRAZOS: own.brazos}[agency]
    impostor = own.folder(own.alder, name(ALDER, "broker", "b1"), hosts=["127.0.0.1"])
    person = own.folder(authority, name(agency, "person", "t-reyes"), role="investigator")
    async with serving(impostor, directory, directory.agency_authorities) as address:
        assert await refused(address, client_credentials(person)) is grpc.StatusCode.UNAVAILABLE


async def test_a_broker_under_another_host_name_is_refused(own: World) -> None:
    directory = own.directory()
    broker = own.folder(own.federation, BROKER, hosts=["broker.example.org"])
    person = own.folder(own.alder, name(ALDER, "person", "t-reyes"), role="investigator")
    async with serving(broker, directory, directory.agency_authorities) as address:
        assert await refused(address, client_credentials(person)) is grpc.StatusCode.UNAVAILABLE


async def test_an_expired_caller_does_not_get_in(own: World) -> None:
    directory = own.directory()
    broker = own.folder(own.federation, BROKER, hosts=["127.0.0.1"])
    yesterday = AT - dt.timedelta(days=1)
    person = own.folder(own.alder, name(ALDER, "person", "t-reyes"), role="investigator", at=yesterday)
    async with serving(broker, directory, directory.agency_authorities) as address:
        assert await refused(address, client_credentials(person)) is grpc.StatusCode.UNAVAILABLE


async def test_a_node_takes_its_own_agencys_cameras_and_no_others(own: World) -> None:
    directory = own.directory()
    node = own.folder(own.alder, name(ALDER, "node", "alder-1"), hosts=["127.0.0.1"])
    roots = directory.authorities_of(ALDER)
    camera = own.folder(own.alder, name(ALDER, "camera", "al-014"))
    foreign = own.folder(own.brazos, name(BRAZOS, "camera", "bb-001"))
    async with serving(node, directory, roots) as address:
        assert await ask(address, client_credentials(camera, roots=roots)) == f"spiffe://{ALDER}/camera/al-014"
        assert await refused(address, client_credentials(foreign, roots=roots)) is grpc.StatusCode.UNAVAILABLE


async def test_a_caller_whom_tls_lets_in_can_still_be_revoked(own: World) -> None:
    broker = own.folder(own.federation, BROKER, hosts=["127.0.0.1"])
    person = own.folder(own.alder, name(ALDER, "person", "t-reyes"), role="investigator")
    directory = own.directory(denied=[fingerprint(person.signer.chain[0])])
    async with serving(broker, directory, directory.agency_authorities) as address:
        assert await ask(address, client_credentials(person)) == "CERTIFICATE_REVOKED"


def test_a_server_that_pins_nobody_is_not_started(own: World) -> None:
    broker = own.folder(own.federation, BROKER, hosts=["127.0.0.1"])
    with pytest.raises(ConfigError) as e:
        server_credentials(broker, ())
    assert e.value.reason == "NO_CLIENT_ROOTS"


def test_a_channel_without_a_peer_certificate_proves_nobody() -> None:
    with pytest.raises(NotAuthentic) as e:
        peer_pem({})
    assert e.value.reason == "NO_CERTIFICATE"
