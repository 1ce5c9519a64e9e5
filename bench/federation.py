"""A synthetic federation of any size in one folder: every node its own agency, a dozen different policies.

ROOT/broker/            the broker's state, its identity and its log
ROOT/nodes/<node>/      an identity folder, and `bundle.json`, the node's signed policy
ROOT/person/            the investigator's identity
"""

from __future__ import annotations

import datetime as dt
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.log import DecisionLog
from audit.note import VerifierKey
from broker.state.folder import FOLDER
from cli.demo.build import SAMPLE, free_ports
from comity import instants
from comity.envelope import BUNDLE_TYPE
from comity.federation import Federation
from identity import certificates, files, keys
from identity.authority import Authority
from identity.directory import LogKey
from identity.dsse import sign_with_key
from identity.folder import DIRECTORY_FILE, write_identity
from identity.names import SpiffeId
from identity.publish import sign_directory
from identity.state_folder import make_config
from policies.bundle import make_bundle
from policies.packs import load_packs
from policies.seal import HEADER, seal

ID = "bench-exchange"
POLICIES = 12
PACKS = ("us-tx-open",)
BUNDLE_FILE = "bundle.json"
VALID_FOR = dt.timedelta(days=2)
SEARCHES = 1_000_000_000  # quotas are counted as always, and never reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """Where it is and which addresses were chosen."""

    root: Path
    nodes: tuple[str, ...]
    investigators_address: str
    nodes_address: str
    admin_address: str
    peer_address: str

    @property
    def broker(self) -> Path:
        """The broker's state folder."""
        return self.root / "broker"

    @property
    def person(self) -> Path:
        """The investigator's identity folder."""
        return self.root / "person"

    def node(self, node: str) -> Path:
        """A node's identity folder."""
        return self.root / "nodes" / node


def build(root: Path, count: int) -> Synthetic:
    """A federation of `count` nodes in the empty folder `root`, ready to be served from."""
    now = instants.now()
    ports = free_ports(4)
    nodes = tuple(f"node-{i:04}" for i in range(count))
    made = Synthetic(
        root=root,
        nodes=nodes,
        investigators_address=f"127.0.0.1:{ports[0]}",
        nodes_address=f"127.0.0.1:{ports[1]}",
        admin_address=f"127.0.0.1:{ports[2]}",
        peer_address=f"127.0.0.1:{ports[3]}",
    )
    tables = _tables(nodes)
    federation = Federation.parse(tables)
    top = Authority.create(root / "authorities" / "federation", ID, at=now)
    authorities = {a: Authority.create(root / "authorities" / a, a, at=now) for a in federation.agencies}
    _identity(made.person, authorities["agency-0000"], "spiffe://agency-0000/person/investigator-1", now, top)
    _identity(made.broker / "identity", top, f"spiffe://{ID}/broker/broker-1", now, top)
    for node in federation.nodes.values():
        name = f"spiffe://{node.agency}/node/{node.id}"
        _identity(made.node(node.id), authorities[node.agency], name, now, top)
    log = _broker(made)
    policy_keys = {a: keys.new_signing_key() for a in federation.agencies}
    directory = sign_directory(
        top,
        version=1,
        issued_at=now,
        federation=tables,
        authorities={a: [c.certificate] for a, c in authorities.items()},
        policy_keys={a: [k.public_key()] for a, k in policy_keys.items()},
        logs=[log],
    )
    for folder in (made.person, made.broker / "identity"):
        files.replace(folder / DIRECTORY_FILE, directory, mode=files.PUBLIC)
    texts = [_policy(i) for i in range(POLICIES)]
    for i, node_id in enumerate(nodes):
        payload = make_bundle(
            federation=federation,
            node=node_id,
            version=1,
            valid_from=now - dt.timedelta(minutes=1),
            valid_to=now + VALID_FOR,
            packs=PACKS,
            policy=texts[i % POLICIES],
        )
        signed = sign_with_key(BUNDLE_TYPE, payload, policy_keys[federation.nodes[node_id].agency])
        files.replace(made.node(node_id) / BUNDLE_FILE, signed, mode=files.PUBLIC)
    return made


def _tables(nodes: tuple[str, ...]) -> dict[str, Any]:
    sample = tomllib.loads(SAMPLE.read_text(encoding="utf-8"))
    agencies = [f"agency-{i:04}" for i in range(len(nodes))]
    return {
        "federation": {"id": ID, "presets": ["federation-base"]},
        **{table: sample[table] for table in ("purposes", "roles", "jurisdictions")},
        "agency": [
            {"id": a, "name": a, "kind": "municipal", "jurisdiction": "us/tx", "does": ["law-enforcement"]}
            for a in agencies
        ],
        "node": [
            {"id": n, "agency": a, "source": "police", "retention_s": 31_536_000, "presets": list(PACKS)}
            for n, a in zip(nodes, agencies, strict=True)
        ],
    }


def _policy(number: int) -> str:
    rule = (
        f"OWN-{number},any-node,any-agency,any-role,welfare-check,any-act,limit,always,window_days<={number + 1},"
        "Policy of the adopting agency; own policy"
    )
    return load_packs(PACKS, own_rules=seal(f"{HEADER}\n{rule}\n"))


def _identity(folder: Path, authority: Authority, name: str, now: dt.datetime, top: Authority) -> None:
    spiffe = SpiffeId.parse(name)
    person = spiffe.kind == "person"
    key = keys.new_signing_key()
    leaf = authority.issue(
        spiffe,
        key.public_key(),
        at=now,
        role="investigator" if person else "",
        hosts=() if person else ("127.0.0.1",),
        ttl=VALID_FOR,
    )
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_identity(folder, key, [leaf, authority.certificate], federation_pem=certificates.pem(top.certificate))


def _broker(made: Synthetic) -> LogKey:
    make_config(
        made.broker,
        "broker.toml",
        {
            "identity": "identity",
            "listen_investigators": made.investigators_address,
            "listen_nodes": made.nodes_address,
            "admin": made.admin_address,
            "person_per_day": SEARCHES,
            "agency_per_day": SEARCHES,
        },
    )
    files.make_folder(made.broker / FOLDER)
    with DecisionLog.create(made.broker, origin=f"{ID}/broker/broker-1", clock=instants.now) as log:
        vkey: VerifierKey = log.vkey
    return LogKey(origin=vkey.name, key=Ed25519PublicKey.from_public_bytes(vkey.key), program="broker", id="broker-1")
