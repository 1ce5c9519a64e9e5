"""The sample federation as real processes, in a folder of its own, that a test may break."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import signal
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.note import VerifierKey
from audit.read import LogReader
from audit.verify import verify
from audit.witness import VKEY_NAME
from cli.demo.build import VALID_FOR, Builder, Layout, witness_keys
from cli.demo.processes import LOG_FILE, Program, call, stop_all
from cli.demo.story import EXCLUDED, planted
from cli.directory import witness_key
from comity import instants
from identity import certificates, files, keys
from identity.authority import Authority
from identity.directory import Directory, LogKey
from identity.folder import BROKER_FILE, DIRECTORY_FILE, IdentityFolder, write_identity
from identity.names import SpiffeId
from identity.publish import sign_directory
from tests.ports import held_ports

T = TypeVar("T")
READS = 200
SECOND = "broker-2"
BROKER_1, BROKER_2 = (f"spiffe://pacific-exchange/broker/{n}" for n in ("broker-1", SECOND))
CLOCK_TICK_S = 0.02
SEARCH_TICK_S = 0.2  # between one search and the next of those that wait for something
# No run waits so long: a machine that needs more is broken.
WITHIN_S = 120.0


def until(probe: Callable[[], T], what: str, *, within_s: float = WITHIN_S, every_s: float = CLOCK_TICK_S) -> T:
    """What `probe` gives once that is true; it is asked every so many seconds.

    Raises:
        AssertionError: it was not in time.
    """
    end, pause = time.monotonic() + within_s, threading.Event()
    while not (got := probe()):
        assert time.monotonic() < end, f"in {within_s:.0f} s not so: {what}"
        pause.wait(every_s)
    return got


def build_template(root: Path) -> None:
    """The sample federation in `root`, never started; a second broker's identity and log are pinned too."""
    layout = Layout.of(root)
    root.mkdir(mode=0o700)
    builder = Builder(layout, reads=READS, planted=planted(instants.now()), excluded=EXCLUDED, say=lambda _: None)
    # Authorities of yesterday, so that a test can have certificates that have expired.
    now = builder._now = instants.now() - dt.timedelta(days=1)
    builder.build()
    top = Authority.load(layout.authority("federation"))
    pem = certificates.pem(top.certificate)
    state = root / SECOND
    state.mkdir(mode=0o700)
    key = keys.new_signing_key()
    name = SpiffeId.parse(BROKER_2)
    leaf = top.issue(name, key.public_key(), at=now, hosts=("127.0.0.1", "localhost"), ttl=VALID_FOR)
    write_identity(state / "identity", key, [leaf, top.certificate], federation_pem=pem)
    call("broker", "init", str(state), "--identity", str(state / "identity"))
    broker = layout.broker / "identity"
    built = Directory.load(broker / DIRECTORY_FILE, broker / "federation-ca.pem")
    directory = sign_directory(
        top,
        version=2,
        issued_at=now,
        federation=layout.tables,
        authorities={a: [Authority.load(layout.authority(a)).certificate] for a in layout.federation.agencies},
        policy_keys={
            n.agency: [keys.load_signing_key(layout.authority(n.agency) / "policy.pem").public_key()]
            for n in layout.federation.nodes.values()
        },
        logs=[
            _log_key(layout.broker, "broker", "broker-1"),
            _log_key(state, "broker", SECOND),
            *(_log_key(layout.node(n), "node", n) for n in layout.federation.nodes),
        ],
        witnesses={**witness_keys(layout), f"broker/{SECOND}": witness_key(state / VKEY_NAME)},
        auditors=built.auditors,
        pseudonym_key=built.pseudonym_key,
    )
    for folder in (*layout.identities, state / "identity"):
        files.replace(folder / DIRECTORY_FILE, directory, mode=files.PUBLIC)


def _log_key(state: Path, program: str, id_: str) -> LogKey:
    vkey = VerifierKey.parse((state / "log.vkey").read_text(encoding="ascii"))
    return LogKey(origin=vkey.name, key=Ed25519PublicKey.from_public_bytes(vkey.key), program=program, id=id_)


class World:
    """A copy of the template with ports of its own.

    Nodes named in `both` also dial out to the second broker's port, where a test may stand. `ingest` names the node
    that has an ingest socket, `tiles` the one that serves its log's tiles. `broker_keys` are further lines of both
    brokers' configuration.
    """

    def __init__(
        self,
        template: Path,
        root: Path,
        *,
        both: Sequence[str] = (),
        ingest: str = "",
        tiles: str = "",
        broker_keys: dict[str, object] | None = None,
    ) -> None:
        shutil.copytree(template, root)
        self.layout = Layout.of(root)
        self.root = self.layout.root
        self.broker = Program("broker", self.layout.broker)
        self.second = Program("broker", self.root / SECOND)
        self.nodes = {n: Program("node", self.layout.node(n)) for n in sorted(self.layout.federation.nodes)}
        ports = held_ports(8)
        (
            self.address,
            self.nodes_address,
            admin,
            self.second_address,
            second,
            second_admin,
            self.ingest_address,
            *rest,
        ) = (f"127.0.0.1:{p}" for p in ports)
        self.tiles_address = rest[0]
        self.admin = admin
        first = self.nodes_address
        self.second_nodes = second
        more = {"stop_grace_s": 8.0} | (broker_keys or {})
        self._configure(self.broker.state / "broker.toml", _broker_keys(self.address, first, admin) | more)
        self._configure(
            self.second.state / "broker.toml", _broker_keys(self.second_address, second, second_admin) | more
        )
        for node, program in self.nodes.items():
            brokers = [first, second] if node in both else [first]
            values: dict[str, object] = {"brokers": brokers, "renew_every_s": 0.1, "ingest": ""}
            if node == ingest:
                values["ingest"] = self.ingest_address
            if node == tiles:
                values |= {"admin": self.tiles_address, "tiles_every_s": 0.2}
            self._configure(program.state / "node.toml", values)
        for path in (self.root, *self.layout.identities):
            files.replace(path / BROKER_FILE, f"{self.address}\n".encode(), mode=files.PUBLIC)
        self.directory = Directory.load(
            self.broker.state / "identity" / DIRECTORY_FILE, self.broker.state / "identity" / "federation-ca.pem"
        )

    def _configure(self, path: Path, values: dict[str, object]) -> None:
        # JSON's texts, numbers and lists of texts are TOML's too.
        lines = [f"{k} = {orjson.dumps(v).decode()}\n" for k, v in ({"identity": "identity"} | values).items()]
        path.write_text("".join(lines), encoding="utf-8")

    def start(self, *nodes: str) -> None:
        """The broker and these nodes (all if none is named) run and are attached; with a quorum of them it releases."""
        programs = [self.nodes[n] for n in nodes or self.nodes]
        for program in (self.broker, *programs):
            program.start()
        ready(self.broker, "serving")
        for program in programs:
            ready(program, "attached")
        federation = self.directory.federation
        if sum(n in federation.witnesses for n in nodes or self.nodes) >= federation.quorum:
            ready(self.broker, "releasing")

    def restart(self, node: str) -> None:
        """A node that has ended runs again and is attached."""
        program = self.nodes[node]
        before = len(attachments(program, BROKER_1))
        program.start()
        self.attached(program, before + 1)

    def attached(self, program: Program, count: int, broker: str = BROKER_1) -> None:
        """Return once the node's log has said so often that it is attached to the broker."""
        until(lambda: len(attachments(program, broker)) >= count, f"{program.state.name} attached {count} times")

    def stop(self) -> None:
        """Nothing runs any more."""
        for program in (self.broker, self.second, *self.nodes.values()):
            if (pid := program.pid) is not None:
                os.kill(pid, signal.SIGCONT)
        stop_all(self.broker, [*self.nodes.values(), self.second])
        # Should its folder have been cleared away under it, only this process still knows what it started.
        for program in (self.broker, self.second, *self.nodes.values()):
            if not program.ended():
                program._process.kill()
                program._process.wait()

    def kill(self, program: Program, sign: signal.Signals = signal.SIGKILL) -> None:
        """The program has ended, by this signal and by itself."""
        pid = program.pid
        assert pid is not None
        os.kill(pid, sign)
        until(program.ended, f"{program.state.name} ended")

    def identity(self, agency: str, role: str = "investigator") -> IdentityFolder:
        """A person's identity."""
        return IdentityFolder.load(self.layout.identity(agency, role))

    def log(self, program: Program) -> list[dict[str, Any]]:
        """Every entry of the program's decision log so far, decoded."""
        with LogReader.open(program.state) as reader:
            return [orjson.loads(entry) for _, entry in reader.forwards(0)]

    def entries(self, program: Program, type_: str, **fields: object) -> list[dict[str, Any]]:
        """The entries of that type with those fields."""
        wanted = {"type": type_} | fields
        return [e for e in self.log(program) if all(e.get(k) == v for k, v in wanted.items())]

    def size(self, program: Program) -> int:
        """The number of entries in the program's decision log but purges, which come at a time of their own."""
        return len(self._kept(program))

    def since(self, program: Program, size: int) -> list[dict[str, Any]]:
        """Its entries after so many, purges neither counted nor given."""
        return [orjson.loads(entry) for entry in self._kept(program)[size:]]

    def _kept(self, program: Program) -> list[bytes]:
        with LogReader.open(program.state) as reader:
            return [entry for _, entry in reader.forwards(0) if b'"type":"purge"' not in entry]

    def give_policy(self, node: str, bundle: bytes) -> None:
        """That is the node's policy file now, whole from one moment to the next: the node may look at any time."""
        files.replace(self.nodes[node].state / "policy.bundle.json", bundle, mode=files.PUBLIC)

    def faults(self, *programs: Program) -> dict[str, object]:
        """What is wrong with the logs of these programs (the broker's and every node's, if none is named)."""
        found: dict[str, object] = {}
        for program in programs or (self.broker, *self.nodes.values()):
            fault = verify(program.state, directory=self.directory).fault
            if fault is not None:
                found[program.state.name] = fault
        return found


def _broker_keys(investigators: str, nodes: str, admin: str) -> dict[str, object]:
    return {"listen_investigators": investigators, "listen_nodes": nodes, "admin": admin}


def ready(program: Program, event: str) -> None:
    """Return once the program has said so since it was started here.

    Raises:
        AssertionError: it ended, or said nothing of the kind.
    """

    def so() -> bool:
        ended = program.ended()
        if f'"event": "{event}"' in program.log():
            return True
        assert not ended, f"{program.state.name} ended: {program.log().strip()[-800:]}"
        return False

    until(so, f"{program.state.name} is {event}")


def said(program: Program) -> str:
    """The program's own log, of every run of it."""
    return (program.state / LOG_FILE).read_text(encoding="utf-8", errors="replace")


def events(program: Program, event: str) -> list[dict[str, Any]]:
    """The lines of the program's own log that say `event`."""
    lines = [orjson.loads(line) for line in said(program).splitlines() if line.startswith("{") and line.endswith("}")]
    return [line for line in lines if line.get("event") == event]


def attachments(program: Program, broker: str) -> list[dict[str, Any]]:
    """The lines in which a node says that it is attached to that broker."""
    return [e for e in events(program, "attached") if e["broker"] == broker]


def spellings(text: str) -> list[re.Pattern[bytes]]:
    """Patterns for `text` as it is, in hex, and in base64 wherever it may begin in a longer value."""
    data = text.encode()
    found = [re.compile(re.escape(d), re.IGNORECASE) for d in (data, data.hex().encode())]
    for before in range(3):
        whole = b64encode(bytes(before) + data)
        # What also depends on the bytes before and after is cut off.
        found.append(re.compile(re.escape(whole[-(-before * 8 // 6) : (before + len(data)) * 8 // 6])))
    return found
