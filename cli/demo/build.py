"""Sets the sample federation up in one folder: authorities, identities, directory, policies, state folders, reads.

DIR/authorities/<agency>/            its certificate authority and policy key; `federation/` the federation's
DIR/identities/<agency>/<role>/      an identity for each role of each agency
DIR/broker/  DIR/nodes/<node>/       each program's state, its identity and its log among it
DIR/identities/<agency>/auditor/sealing.key   opens what that agency's nodes' logs seal; `federation/`: every log
DIR/cameras/<node>/                  the files that cameras wrote
DIR/broker.addr                      where investigators call
"""

from __future__ import annotations

import datetime as dt
import socket
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from audit.note import VerifierKey
from audit.witness import VKEY_NAME
from cli.demo.generate import write_camera_files
from cli.demo.processes import call
from cli.demo.traffic import Planted
from cli.directory import witness_key
from comity.envelope import BUNDLE_TYPE
from comity.federation import Federation, Node
from identity import certificates, files, keys
from identity.auditors import Recipient, write_auditor_key
from identity.authority import Authority
from identity.directory import LogKey
from identity.dsse import sign_with_key
from identity.folder import BROKER_FILE, DIRECTORY_FILE, write_identity
from identity.names import SpiffeId
from identity.pseudonym_key import SealedPseudonymKey
from identity.publish import sign_directory
from policies.bundle import make_bundle
from policies.packs import load_packs
from policies.usage import usage_policies

SAMPLE = Path(__file__).parents[2] / "policies" / "sample" / "directory.toml"
ROLES = ("investigator", "supervisor", "auditor")
BROKER_ID = "broker-1"
SEALING_KEY = "sealing.key"
VALID_FOR = dt.timedelta(days=7)
POLICY_VALID_FOR = dt.timedelta(days=365)
SEED = 20260101

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The folder of one sample federation."""

    root: Path
    tables: dict[str, Any]
    federation: Federation

    @classmethod
    def of(cls, root: Path) -> Layout:
        """The sample federation in `root`, whether it is built or not."""
        tables = tomllib.loads(SAMPLE.read_text(encoding="utf-8"))
        return cls(root=root.resolve(), tables=tables, federation=Federation.parse(tables))

    @property
    def broker(self) -> Path:
        """The broker's state folder."""
        return self.root / "broker"

    def node(self, node: str) -> Path:
        """A node's state folder."""
        return self.root / "nodes" / node

    def identity(self, agency: str, role: str) -> Path:
        """An identity folder of that agency and role."""
        return self.root / "identities" / agency / role

    def authority(self, owner: str) -> Path:
        """The authority of an agency, or of the `federation`."""
        return self.root / "authorities" / owner

    @property
    def identities(self) -> list[Path]:
        """Every identity folder: persons', nodes', the broker's."""
        persons = [self.identity(a, r) for a in sorted(self.federation.agencies) for r in ROLES]
        nodes = [self.node(n) / "identity" for n in sorted(self.federation.nodes)]
        return [*persons, *nodes, self.broker / "identity"]


class Builder:
    """Builds one sample federation; `say` hears of each part."""

    def __init__(
        self, layout: Layout, *, reads: int, planted: Sequence[Planted], excluded: Sequence[str], say: Say
    ) -> None:
        self._l = layout
        self._reads = reads
        self._planted = planted
        self._excluded = excluded
        self._say = say
        self._now = dt.datetime.now(dt.UTC)
        self._ports = free_ports(3)

    def build(self) -> None:
        """Everything, up to the reads that are minutes old.

        Raises:
            ComityError: a part cannot be made.
        """
        federation = self._l.federation
        self._say(f"{len(federation.agencies)} agencies, each its own certificate authority, and the federation's")
        authorities = {a: Authority.create(self._l.authority(a), a, at=self._now) for a in federation.agencies}
        top = Authority.create(self._l.authority("federation"), federation.id, at=self._now)
        self._issue(authorities, top)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda make: make(), [self._init_broker, *(self._node_init(n) for n in federation.nodes)]))
        self._publish(authorities, top)
        self._say(f"{len(federation.nodes)} nodes, {self._reads} detections each, read in from the cameras' files")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._load, federation.nodes.values()))

    def _issue(self, authorities: dict[str, Authority], top: Authority) -> None:
        pem = certificates.pem(top.certificate)
        for agency, authority in authorities.items():
            for role in ROLES:
                name = SpiffeId.parse(f"spiffe://{agency}/person/{role}-1")
                self._write(self._l.identity(agency, role), authority, name, pem, role=role)
        for node in self._l.federation.nodes.values():
            name = SpiffeId.parse(f"spiffe://{node.agency}/node/{node.id}")
            self._write(self._l.node(node.id) / "identity", authorities[node.agency], name, pem, hosts=("127.0.0.1",))
        name = SpiffeId.parse(f"spiffe://{top.trust_domain}/broker/{BROKER_ID}")
        self._write(self._l.broker / "identity", top, name, pem, hosts=("127.0.0.1", "localhost"))

    def _write(
        self,
        folder: Path,
        authority: Authority,
        name: SpiffeId,
        pem: bytes,
        *,
        role: str = "",
        hosts: Sequence[str] = (),
    ) -> None:
        key = keys.new_signing_key()
        leaf = authority.issue(name, key.public_key(), at=self._now, role=role, hosts=hosts, ttl=VALID_FOR)
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_identity(folder, key, [leaf, authority.certificate], federation_pem=pem)

    def _init_broker(self) -> str:
        investigators, nodes, admin = (f"127.0.0.1:{p}" for p in self._ports)
        state = self._l.broker
        return call(
            "broker", "init", str(state), "--identity", str(state / "identity"),
            "--investigators", investigators, "--nodes", nodes, "--admin", admin,
        )  # fmt: skip

    def _node_init(self, node: str) -> Callable[[], str]:
        state = self._l.node(node)
        broker = f"127.0.0.1:{self._ports[1]}"
        return lambda: call("node", "init", str(state), "--identity", str(state / "identity"), "--broker", broker)

    def _publish(self, authorities: dict[str, Authority], top: Authority) -> None:
        federation = self._l.federation
        policy_keys = {a: keys.new_signing_key() for a in {n.agency for n in federation.nodes.values()}}
        logs = [self._log_key(self._l.broker, "broker", BROKER_ID)]
        logs += [self._log_key(self._l.node(n), "node", n) for n in federation.nodes]
        directory = sign_directory(
            top,
            version=1,
            issued_at=self._now,
            federation=self._l.tables,
            authorities={a: [c.certificate] for a, c in authorities.items()},
            policy_keys={a: [k.public_key()] for a, k in policy_keys.items()},
            logs=logs,
            witnesses=witness_keys(self._l),
            auditors=(auditors := self._auditors()),
            pseudonym_key=SealedPseudonymKey.fresh(federation.id, auditors),
        )
        address = f"127.0.0.1:{self._ports[0]}\n".encode()
        files.replace(self._l.root / BROKER_FILE, address, mode=files.PUBLIC)
        for folder in self._l.identities:
            files.replace(folder / DIRECTORY_FILE, directory, mode=files.PUBLIC)
            files.replace(folder / BROKER_FILE, address, mode=files.PUBLIC)
        for agency, key in policy_keys.items():
            keys.write_key(self._l.authority(agency) / "policy.pem", key)
        for node in federation.nodes.values():
            publish_policy(self._l, node.id, version=1, packs=node.presets, now=self._now)

    def _auditors(self) -> list[Recipient]:
        """An auditor for each agency's own nodes' logs, and the federation's for every log."""
        federation = self._l.federation
        made = []
        for agency in sorted({n.agency for n in federation.nodes.values()}):
            own = [n.id for n in federation.nodes.values() if n.agency == agency]
            origins = (self._log_key(self._l.node(n), "node", n).origin for n in own)
            made.append(self._auditor(agency, agency, frozenset(origins)))
        return [*made, self._auditor(federation.id, "federation", None)]

    def _auditor(self, owner: str, folder: str, logs: frozenset[str] | None) -> Recipient:
        key = X25519PrivateKey.generate()
        path = self._l.identity(folder, "auditor")
        files.make_folder(path)
        write_auditor_key(path / SEALING_KEY, key)
        return Recipient(name=f"spiffe://{owner}/person/auditor-1", key=key.public_key(), logs=logs)

    def _log_key(self, state: Path, program: str, id_: str) -> LogKey:
        vkey = VerifierKey.parse((state / "log.vkey").read_text(encoding="ascii"))
        return LogKey(origin=vkey.name, key=Ed25519PublicKey.from_public_bytes(vkey.key), program=program, id=id_)

    def _load(self, node: Node) -> None:
        folder = self._l.root / "cameras" / node.id
        written = write_camera_files(
            folder, node.id, self._l.federation, SEED, self._reads, dt.datetime.now(dt.UTC), self._planted,
            excluded=self._excluded,
        )  # fmt: skip
        call("node", "ingest", str(self._l.node(node.id)), *map(str, written), accept=(0, 3))


def witness_keys(layout: Layout) -> dict[str, Ed25519PublicKey]:
    """The witnesses that the directory pins: nodes that it names, for the broker's log, and the broker for theirs."""
    nodes = {n: witness_key(layout.node(n) / VKEY_NAME) for n in layout.federation.witnesses}
    return {**nodes, f"broker/{BROKER_ID}": witness_key(layout.broker / VKEY_NAME)}


def publish_policy(layout: Layout, node: str, *, version: int, packs: Sequence[str], now: dt.datetime) -> None:
    """The node's policy file is these packs, signed with its agency's policy key; the node takes it up by itself.

    Raises:
        PolicyError, ConfigError: it cannot be made.
    """
    federation = layout.federation
    payload = make_bundle(
        federation=federation,
        node=node,
        version=version,
        valid_from=now - dt.timedelta(minutes=1),
        valid_to=now + POLICY_VALID_FOR,
        packs=packs,
        policy=load_packs(packs, on=now.date()),
        usage_policy=usage_policies(SAMPLE.parent, federation).get(node),
    )
    key = keys.load_signing_key(layout.authority(federation.nodes[node].agency) / "policy.pem")
    path = layout.node(node) / "policy.bundle.json"
    files.replace(path, sign_with_key(BUNDLE_TYPE, payload, key), mode=files.PUBLIC)


def free_ports(count: int) -> list[int]:
    """So many ports of loopback that nobody listens on now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for s in held:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in held]
    finally:
        for s in held:
            s.close()
