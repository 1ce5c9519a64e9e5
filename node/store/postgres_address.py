"""Where a PostgreSQL store is: one URL without a password, and TLS wherever the way leaves this machine."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from comity.errors import ConfigError

SCHEMES = ("postgresql", "postgres")
MAX_URL_CHARACTERS = 2_000
MAX_NAME_BYTES = 63  # Source: PostgreSQL, 4.1.1 Identifiers and Key Words
_OPTIONS = ("host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey")
VERIFIED = "verify-full"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAddress:
    """A server and a database. `settings` are libpq's keywords, without the password, which nothing shows."""

    settings: tuple[tuple[str, str], ...]
    words: str
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str, *, password: str = "") -> PostgresAddress:
        """The address in `postgresql://USER@HOST:PORT/DATABASE?sslrootcert=FILE`.

        Of options, sslmode, sslrootcert, sslcert, sslkey, host and port may stand in it. Without a password given
        here libpq takes it from PGPASSWORD or PGPASSFILE.

        Raises:
            ConfigError: BAD_STORE_URL; PASSWORD_IN_URL; TLS_REQUIRED: not loopback, not a socket, and not verified.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError:
            raise _bad("it cannot be read") from None
        if len(url) > MAX_URL_CHARACTERS or not url.isprintable():
            raise _bad("it is too long, or not printable")
        if parts.scheme not in SCHEMES or parts.fragment:
            raise _bad("it must be postgresql://USER@HOST:PORT/DATABASE")
        # A password in a configuration file is in its backups too, and in an argument it is in the process list.
        if parts.password is not None or "password" in options:
            raise ConfigError(
                "the store's URL holds a password: put it in a file of mode 0600 (store_password_file)",
                reason="PASSWORD_IN_URL",
            )
        if unknown := sorted(set(options) - set(_OPTIONS)):
            raise _bad(f"{', '.join(unknown)} may not stand in it")
        settings = {k: v for k, v in options.items() if v}
        settings.setdefault("host", unquote(parts.hostname or ""))
        settings |= {"port": str(port)} if port else {}
        settings |= {"user": unquote(parts.username)} if parts.username else {}
        settings["dbname"] = unquote(parts.path.removeprefix("/")) or "comity"
        settings["sslmode"] = _sslmode(settings["host"], settings.get("sslmode", ""))
        where = settings["host"] or "a local socket"
        return cls(
            settings=tuple(sorted((k, v) for k, v in settings.items() if v)),
            words=f"{where}:{settings.get('port', '5432')}/{settings['dbname']}",
            password=password,
        )


def schema_of(node: str) -> str:
    """The schema of this node's own: several nodes may share one database, and none sees another's rows."""
    name = "comity_" + node.replace("-", "_")
    if len(name) <= MAX_NAME_BYTES:
        return name
    return "comity_" + hashlib.sha256(node.encode()).hexdigest()[:48]


def local(host: str) -> bool:
    """True if what goes to `host` stays on this machine: a socket's folder, or loopback."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _sslmode(host: str, given: str) -> str:
    hosts = host.split(",")
    if all(local(h) for h in hosts):
        return given or "prefer"
    if given not in ("", VERIFIED):
        raise ConfigError(
            f"the store's URL must say sslmode={VERIFIED}: plates go over a network to {host}", reason="TLS_REQUIRED"
        )
    return VERIFIED


def _bad(why: str) -> ConfigError:
    return ConfigError(f"the store's URL is refused: {why}", reason="BAD_STORE_URL")
