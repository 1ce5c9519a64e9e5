"""Over a network the store's server must prove its name: shown with a TLS front before the real server."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from node.store.interface import StoreError
from node.store.postgres_address import PostgresAddress
from node.store.postgres_pool import connect, faults, run
from tests.postgres_server import PostgresServer, quoted

SSL_REQUEST = bytes.fromhex("0000000804d2162f")  # Source: PostgreSQL, 53.7 Message Formats, SSLRequest


class TlsFront:
    """Speaks TLS for a server that speaks none, with one certificate for `name`."""

    def __init__(self, server: tuple[str, int], ca: trustme.CA, name: str) -> None:
        self._server = server
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(name).configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError, AssertionError), plain:
            assert plain.recv(8, socket.MSG_WAITALL) == SSL_REQUEST
            plain.sendall(b"S")
            with (
                self._context.wrap_socket(plain, server_side=True) as inside,
                socket.create_connection(self._server) as outside,
            ):
                threading.Thread(target=_pass_on, args=(outside, inside), daemon=True).start()
                _pass_on(inside, outside)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def ca(tmp_path: Path) -> trustme.CA:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return ca


@contextlib.contextmanager
def front(server: PostgresServer, ca: trustme.CA, name: str) -> Iterator[TlsFront]:
    settings = dict(PostgresAddress.parse(server.url).settings)
    made = TlsFront((settings["host"], int(settings.get("port", "5432"))), ca, name)
    try:
        yield made
    finally:
        made.close()


def reached(server: PostgresServer, port: int, root: Path) -> object:
    """Whether the connection that the store makes is encrypted, as the client knows."""
    settings = dict(PostgresAddress.parse(server.url).settings)
    url = f"postgresql://{settings['user']}@localhost:{port}/{settings['dbname']}"
    address = PostgresAddress.parse(
        f"{url}?sslmode=verify-full&sslrootcert={quoted(str(root))}", password=server.password
    )
    with faults(), connect(address, "public") as connection:
        run(connection, "SELECT 1")
        return connection.pgconn.ssl_in_use


def test_a_server_that_proves_its_name_is_spoken_to(
    postgres_server: PostgresServer, ca: trustme.CA, tmp_path: Path
) -> None:
    with front(postgres_server, ca, "localhost") as tls:
        assert reached(postgres_server, tls.port, tmp_path / "ca.pem")


@pytest.mark.parametrize("wrong", ["another's name", "another authority"])
def test_a_server_that_does_not_is_told_nothing(
    postgres_server: PostgresServer, ca: trustme.CA, tmp_path: Path, wrong: str
) -> None:
    name = "db.example" if wrong == "another's name" else "localhost"
    issuer = ca if wrong == "another's name" else trustme.CA()
    with front(postgres_server, issuer, name) as tls, pytest.raises(StoreError):
        reached(postgres_server, tls.port, tmp_path / "ca.pem")
