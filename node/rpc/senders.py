"""Who may call the webhook: a camera of this agency by its certificate, or a system that has a token.

The token file, mode 0600: one `NAME TOKEN` a line, so that one can be replaced while the other is still in use.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

from comity.errors import ConfigError, NotAllowed, NotAuthentic
from identity import files
from identity.directory import Directory
from identity.verify import verify_peer_pem

MAX_TOKENS = 64
MAX_FILE_BYTES = 64 * 1024
MAX_AUTHORIZATION_CHARACTERS = 1024
_LINE = re.compile(r"([a-z0-9][a-z0-9._-]{0,31})[ \t]+([!-~]{32,128})\Z")


def load_tokens(path: Path) -> Mapping[str, bytes]:
    """The SHA-256 of each token by its name.

    Raises:
        ConfigError: FILE_UNREADABLE, KEY_EXPOSED, FILE_TOO_LARGE, or BAD_TOKENS: naming the line, never the token.
    """
    out: dict[str, bytes] = {}
    text = files.read(path, max_bytes=MAX_FILE_BYTES, private=True).decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.match(line.strip())
        if not found or found[1] in out:
            raise ConfigError(
                f"{path}:{number}: a line is NAME TOKEN, the token of 32 to 128 characters", reason="BAD_TOKENS"
            )
        out[found[1]] = _digest(found[2])
    if not 0 < len(out) <= MAX_TOKENS:
        raise ConfigError(f"{path} must have 1 to {MAX_TOKENS} tokens", reason="BAD_TOKENS")
    return out


class Senders:
    """Tells who sent a request. `tokens` is what `load_tokens` gave; none: certificates alone count."""

    def __init__(
        self, tokens: Mapping[str, bytes], directory: Directory, agency: str, clock: Callable[[], dt.datetime]
    ) -> None:
        self._tokens = tokens
        self._directory = directory
        self._agency = agency
        self._clock = clock

    def of(self, authorization: str | None, certificate: bytes | None) -> str:
        """The sender's name: the camera's of its certificate (DER), else the token's.

        A certificate that does not count refuses the request, whatever token comes with it.

        Raises:
            NotAuthentic: NO_CREDENTIALS, BAD_TOKEN, or as `verify_peer_pem`.
            NotAllowed: WRONG_AGENCY.
        """
        if certificate is not None:
            pem = ssl.DER_cert_to_PEM_cert(certificate).encode()
            peer = verify_peer_pem(pem, self._directory, self._clock(), kind="camera")
            if peer.agency != self._agency:
                raise NotAllowed("only this agency's own cameras send reads here", reason="WRONG_AGENCY")
            return peer.id
        if authorization is None:
            raise NotAuthentic("a token or a camera's certificate is needed", reason="NO_CREDENTIALS")
        digest = _digest(_token(authorization))
        # All are compared, in constant time each, so that the time tells neither which nor how much was right.
        matched = [name for name, known in self._tokens.items() if hmac.compare_digest(known, digest)]
        if not matched:
            raise NotAuthentic("this token is not known here", reason="BAD_TOKEN")
        return matched[0]


def _token(authorization: str) -> str:
    """The token of `Bearer TOKEN`, or the password of `Basic`, which is all that some cameras can send."""
    scheme, _, value = authorization[:MAX_AUTHORIZATION_CHARACTERS].partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            pass
    raise NotAuthentic("Authorization must be Bearer or Basic", reason="BAD_TOKEN")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
