"""TLS for the webhook: the node's certificate, and a camera's asked for but not required."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from cryptography import x509

from comity.errors import ConfigError
from identity import certificates
from identity.folder import CHAIN_FILE, KEY_FILE, IdentityFolder


def server_context(folder: IdentityFolder, camera_roots: Sequence[x509.Certificate]) -> ssl.SSLContext:
    """A context of TLS 1.2 or later; a certificate that is shown must come from one of `camera_roots`.

    Raises:
        ConfigError: BAD_KEY.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    take_up(context, folder)
    context.load_verify_locations(cadata=certificates.pem(*camera_roots).decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def take_up(context: ssl.SSLContext, folder: IdentityFolder) -> None:
    """New connections get the certificate that is in `folder` now: a node's lasts hours, and is renewed meanwhile.

    Raises:
        ConfigError: BAD_KEY; the context goes on with what it had.
    """
    try:
        context.load_cert_chain(folder.path / CHAIN_FILE, folder.path / KEY_FILE)
    except (OSError, ssl.SSLError):
        raise ConfigError(f"{folder.path}: key and certificate cannot be used", reason="BAD_KEY") from None
