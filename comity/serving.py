"""Where a program listens."""

from __future__ import annotations

import grpc

from comity.errors import ConfigError


def bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """The port that `server` listens on; without `credentials` anybody of this machine may call.

    Raises:
        ConfigError: ADDRESS_TAKEN, the address is another program's or not this machine's.
    """
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError:
        raise ConfigError(f"cannot listen on {address}: is another program there?", reason="ADDRESS_TAKEN") from None
