"""Who is at the other end of a connection, and whether this service is for them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import grpc

from comity.errors import NotAllowed
from identity.directory import Directory
from identity.tls import peer_pem
from identity.verify import Identity, verify_peer_pem

# Which kind of caller each service is for. A service that is not named here is for nobody.
CALLERS = {"SearchService": "person", "NodeLinkService": "node", "PolicyService": "person"}


def peer_of(
    context: grpc.aio.ServicerContext[Any, Any], service: str, directory: Directory, now: dt.datetime
) -> Identity:
    """The caller, from the certificate of its connection, which is checked on every call: channels outlive it.

    Raises:
        NotAuthentic: no certificate, or none that is valid now.
        NotAllowed: a valid one of another kind.
    """
    identity = verify_peer_pem(peer_pem({k: tuple(v) for k, v in context.auth_context().items()}), directory, now)
    if identity.kind != CALLERS[service]:
        raise NotAllowed(f"{service} is for a {CALLERS[service]}, not for a {identity.kind}", reason="WRONG_KIND")
    return identity
