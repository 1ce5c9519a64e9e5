"""What a node's state folder holds, opened: for the program, and for the commands on its folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from audit.entry import Draft
from comity import instants
from comity.errors import ConfigError
from identity.directory import Directory
from identity.folder import IdentityFolder
from node.config import NodeConfig
from node.counters import FILE as COUNTERS_FILE
from node.counters import Counters
from node.holds import FOLDER as HOLDS_FOLDER
from node.holds import Holds
from node.images import Images
from node.ingest import Ingester
from node.intake import IMAGES_FOLDER
from node.retention import ClockGuard, Retention
from node.store.choose import StoreAt
from node.store.keeping import KeptStore
from node.store.rules import parse_rules
from policies.retention import retention_s

SET_ASIDE_FOLDER = "set-aside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All of them; `retention_s` is the least of the configuration's, the directory's and the packs'."""

    config: NodeConfig
    folder: IdentityFolder
    directory: Directory
    node: str
    agency: str
    retention_s: int
    store: KeptStore
    ingester: Ingester
    counters: Counters
    holds: Holds

    @classmethod
    def open(cls, state: Path) -> Parts:
        """The parts in `state`, made by `comity node init`.

        Raises:
            ConfigError: something is missing, or the identity is no node's of this directory.
        """
        config = NodeConfig.load(state)
        folder = IdentityFolder.load(state / config.identity)
        directory = folder.directory()
        registered = directory.federation.nodes.get(folder.spiffe.id)
        if folder.spiffe.kind != "node" or registered is None or registered.agency != folder.spiffe.trust_domain:
            raise ConfigError(f"{folder.path} is not the identity of a node that the directory registers")
        retention = retention_s(
            min(config.retention_s or registered.retention_s, registered.retention_s), registered.presets
        )
        rules = parse_rules(config.retention_rules)
        at = StoreAt.parse(config.store, state, password_file=config.store_password_file)
        store = at.open(
            agency=registered.agency, node=registered.id, retention_s=retention, clock=instants.now, rules=rules
        )
        counters = Counters(state / COUNTERS_FILE)
        images = Images(state / IMAGES_FOLDER) if config.image_retention_s else None
        ingester = Ingester(
            store,
            state / SET_ASIDE_FOLDER,
            instants.now,
            source=registered.source,
            images=images,
            counters=counters,
        )
        return cls(
            config=config,
            folder=folder,
            directory=directory,
            node=registered.id,
            agency=registered.agency,
            retention_s=retention,
            store=store,
            ingester=ingester,
            counters=counters,
            holds=Holds(
                state / HOLDS_FOLDER,
                directory=directory,
                node=registered.id,
                agency=registered.agency,
                clock=instants.now,
            ),
        )

    def retention(
        self, state: Path, record: Callable[[Draft], None], known_ms: int = 0, guard: ClockGuard | None = None
    ) -> Retention:
        """What purges this node; `record` makes an entry durable in its log, or raises. `known_ms`: see `guard_of`."""
        return Retention(
            state,
            node=self.node,
            store=self.store,
            holds=self.holds,
            guard=guard or guard_of(known_ms),
            record=record,
        )


def guard_of(known_ms: int = 0) -> ClockGuard:
    """A guard by a counter that goes on while the machine sleeps, which is no jump of the clock; see `ClockGuard`."""
    return ClockGuard(lambda: time.clock_gettime(time.CLOCK_BOOTTIME), known_ms)
