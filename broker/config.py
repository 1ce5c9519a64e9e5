"""The broker's configuration: `broker.toml` in its state folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from comity import config
from comity.errors import ConfigError
from identity import files

FILE = "broker.toml"
MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """Every key, with its default. Addresses are HOST:PORT; the admin port is on loopback only."""

    # An identity folder: key.pem, chain.pem, federation-ca.pem, directory.json.
    identity: Path
    # Where investigators and auditors call.
    listen_investigators: str = "127.0.0.1:7443"
    # Where nodes attach: a port of this process's own.
    listen_nodes: str = "127.0.0.1:7444"
    # The same as nodes reach it from outside; empty: as listened on.
    advertise_nodes: str = ""
    # Health, reflection and channelz.
    admin: str = "127.0.0.1:7445"
    # Shared state of several broker processes; empty: this process alone, nothing shared.
    redis_url: str = ""
    # Searches at once: in all, and of one agency; further ones wait, as many as that, before they are turned away.
    searches: int = 64
    searches_per_agency: int = 16
    # Searches a UTC day; previews and rejected calls count too.
    person_per_day: int = 2_000
    agency_per_day: int = 50_000
    # Seconds between looks for a renewed certificate or directory.
    renew_every_s: float = 2.0
    # Seconds that running searches may take to end when the broker stops.
    stop_grace_s: float = 10.0
    # Seconds after which a witness's last cosignature counts no more; with too few of them nothing is released.
    quorum_within_s: float = 900.0
    # Seconds between publications of the decision log's tiles, which the admin port then serves by HTTP; 0: not at all.
    tiles_every_s: float = 0.0

    @classmethod
    def load(cls, state: Path) -> BrokerConfig:
        """The configuration in the state folder; a relative `identity` is under it.

        Raises:
            ConfigError: no such file, or a key that is unknown, missing or wrong; KEY_EXPOSED: it holds a password of
                Redis, and others can read it.
        """
        path = state / FILE
        try:
            text = path.read_bytes()[:MAX_BYTES].decode()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"{path} cannot be read: make one with comity broker init", reason="NO_CONFIG") from None
        loaded = config.parse(cls, text, file=str(path))
        host, _ = config.address(loaded.admin, key=f"{path}: admin")
        if host not in ("127.0.0.1", "localhost", "[::1]"):
            raise ConfigError(f"{path}: admin must be on loopback")
        for key in ("listen_investigators", "listen_nodes", *(["advertise_nodes"] if loaded.advertise_nodes else [])):
            config.address(getattr(loaded, key), key=f"{path}: {key}")
        if "@" in loaded.redis_url:
            files.read(path, max_bytes=MAX_BYTES, private=True)  # a password is in it
        if loaded.renew_every_s <= 0:
            raise ConfigError(f"{path}: renew_every_s must be more than 0")
        if loaded.quorum_within_s < 1 or loaded.tiles_every_s < 0:
            raise ConfigError(f"{path}: quorum_within_s must be 1 or more, tiles_every_s 0 or more")
        return loaded
