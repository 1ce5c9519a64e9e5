"""The node's configuration: `node.toml` in its state folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from comity import config
from comity.errors import ConfigError

FILE = "node.toml"
MAX_BYTES = 64 * 1024

NO_CAMERA = "none"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Every key, with its default. The node listens on its ingest socket and, on loopback, its admin port; else it
    dials out."""

    # An identity folder: key.pem, chain.pem, federation-ca.pem, directory.json.
    identity: Path
    # Broker processes to attach to, HOST:PORT.
    brokers: tuple[str, ...]
    # Where this agency's own cameras send reads; empty: nowhere, files only.
    ingest: str = ""
    # Health, reflection and channelz; empty: none.
    admin: str = ""
    # Where detections are: sqlite:FOLDER, under the state folder, or postgresql://USER@HOST/DATABASE. A file with the
    # database's password, mode 0600; empty: PGPASSWORD or PGPASSFILE, if the server asks for one.
    store: str = "sqlite:store"
    store_password_file: str = ""
    # Own retention in seconds; 0: the directory's. The least of this, the directory's and the packs' counts.
    retention_s: int = 0
    # Classes that are kept for less: "source:commercial=SECONDS" or "camera:ID=SECONDS".
    retention_rules: tuple[str, ...] = ()
    # Cameras that are mobile, for rules that rest on that; ["none"] if none is; empty: not stated, and what rests on it
    # is refused.
    mobile_cameras: tuple[str, ...] = ()
    # Pictures that come with reads are kept so long, in seconds, and never longer than the detections; 0: not at all.
    image_retention_s: int = 0
    # A folder whose files are read in and moved to its done/ or failed/; empty: none. Seconds between looks.
    watch: str = ""
    watch_every_s: float = 2.0
    # Where plate readers send their webhooks by HTTPS; empty: nowhere. A file of NAME TOKEN lines, mode 0600; empty:
    # cameras' certificates alone count.
    webhook: str = ""
    webhook_tokens: str = ""
    # Seconds between looks for a new policy file and purges of what is past its retention.
    renew_every_s: float = 2.0
    purge_every_s: float = 30.0
    # Seconds between publications of the decision log's tiles, which the admin port then serves by HTTP; 0: not at all.
    tiles_every_s: float = 0.0

    @classmethod
    def load(cls, state: Path) -> NodeConfig:
        """The configuration in the state folder; a relative `identity` is under it.

        Raises:
            ConfigError: no such file, or a key that is unknown, missing or wrong.
        """
        path = state / FILE
        try:
            text = path.read_bytes()[:MAX_BYTES].decode()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"{path} cannot be read: make one with comity node init", reason="NO_CONFIG") from None
        loaded = config.parse(cls, text, file=str(path))
        if not loaded.brokers:
            raise ConfigError(f"{path}: brokers must name at least one HOST:PORT")
        for broker in loaded.brokers:
            config.address(broker, key=f"{path}: brokers")
        if loaded.admin and config.address(loaded.admin, key=f"{path}: admin")[0] not in LOOPBACK:
            raise ConfigError(f"{path}: admin must be on loopback")
        if loaded.ingest:
            config.address(loaded.ingest, key=f"{path}: ingest")
        if loaded.webhook:
            config.address(loaded.webhook, key=f"{path}: webhook")
        named = set(loaded.mobile_cameras)
        if "" in named or (NO_CAMERA in named and len(named) > 1):
            raise ConfigError(f"{path}: mobile_cameras must be cameras' names, or {NO_CAMERA} alone")
        if loaded.webhook_tokens and not loaded.webhook:
            raise ConfigError(f"{path}: webhook_tokens without webhook")
        if loaded.tiles_every_s < 0 or (loaded.tiles_every_s and not loaded.admin):
            raise ConfigError(f"{path}: tiles_every_s must be 0 or more, and needs an admin port")
        if loaded.renew_every_s <= 0:
            raise ConfigError(f"{path}: renew_every_s must be more than 0")
        if loaded.image_retention_s < 0 or loaded.watch_every_s <= 0:
            raise ConfigError(f"{path}: image_retention_s must be 0 or more, watch_every_s more than 0")
        return loaded

    @property
    def mobile(self) -> frozenset[str] | None:
        """The cameras that are mobile; None where it is not stated which are."""
        return frozenset(self.mobile_cameras) - {NO_CAMERA} if self.mobile_cameras else None
