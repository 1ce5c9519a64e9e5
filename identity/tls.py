"""Mutual TLS for gRPC, from an identity folder: the only file here that knows gRPC.

TLS keeps strangers out; `identity.verify.verify_peer_pem` then says, on every call, who the peer is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import grpc
from cryptography import x509

from comity.errors import ConfigError, NotAuthentic
from identity import certificates
from identity.folder import IdentityFolder
from identity.keys import private_pem


def client_credentials(folder: IdentityFolder, *, roots: Sequence[x509.Certificate] = ()) -> grpc.ChannelCredentials:
    """Credentials to call a broker: its certificate must come from the federation's authority, no agency's.

    `roots` replaces that for a camera that calls its own agency's node: `directory.authorities_of(agency)`.

    Raises:
        ConfigError: NO_FEDERATION.
    """
    return grpc.ssl_channel_credentials(
        root_certificates=certificates.pem(*roots) if roots else folder.federation_pem(),
        private_key=private_pem(folder.signer.key),
        certificate_chain=certificates.pem(*folder.chain),
    )


def server_credentials(folder: IdentityFolder, client_roots: Sequence[x509.Certificate]) -> grpc.ServerCredentials:
    """Credentials to serve: a caller must show a certificate of one of `client_roots`.

    A broker gives `directory.agency_authorities`, a node's ingest socket its own agency's alone.

    Raises:
        ConfigError: NO_CLIENT_ROOTS, none given: gRPC would then trust nobody's or everybody's.
    """
    if not client_roots:
        raise ConfigError("no authority is pinned whose certificates callers could show", reason="NO_CLIENT_ROOTS")
    return grpc.ssl_server_credentials(
        [(private_pem(folder.signer.key), certificates.pem(*folder.chain))],
        root_certificates=certificates.pem(*client_roots),
        require_client_auth=True,
    )


def peer_pem(auth_context: Mapping[str, Iterable[bytes]]) -> bytes:
    """The peer's leaf in PEM, from `context.auth_context()`.

    Raises:
        NotAuthentic: NO_CERTIFICATE, the channel is not mutual TLS.
    """
    found = tuple(auth_context.get("x509_pem_cert", ()))
    if len(found) != 1:
        raise NotAuthentic("the caller showed no certificate", reason="NO_CERTIFICATE")
    return found[0]
