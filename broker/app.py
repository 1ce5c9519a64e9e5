"""Builds the broker from its state folder, serves, and stops in order. The only file that knows every adapter."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import hashlib
import itertools
import random
import time
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import structlog

from audit.entry import start_entry, stop_entry
from audit.log import DecisionLog
from audit.tile_http import BEHIND
from broker import idle, policies
from broker.admission import Admission
from broker.config import BrokerConfig
from broker.consult import Consulting
from broker.links import Links
from broker.metrics import Finishes, metrics
from broker.ports import Bundles, Presence, Quota, ReplayGuard
from broker.publish import Publishing
from broker.rpc.node_link_service import Attachments, NodeLinkService
from broker.rpc.policy_service import Consultation, PolicyService
from broker.rpc.search_service import SearchService
from broker.search import Limits, Search
from broker.state.folder import FOLDER, FolderBundles
from broker.state.inprocess import InProcessPresence, InProcessQuota, InProcessReplayGuard
from broker.state.redis import PREFIX, RedisPresence, RedisQuota, RedisReplayGuard, SharedRedis
from broker.state.redis_bundles import RedisBundles
from broker.witnessing import Witnessing, enough_witnesses
from comity import instants, logs
from comity.admin import NOT_SERVING, SERVING, Health
from comity.decision import Pep
from comity.errors import ComityError, ConfigError
from comity.serving import bind
from comity.status import ErrorInterceptor
from comity.v1 import node_link_service_pb2_grpc, policy_service_pb2_grpc, search_service_pb2_grpc
from identity.directory import Directory
from identity.folder import IdentityFolder
from identity.running import Running
from identity.tls import server_credentials
from policies.decide import Decider
from policies.engine import compiled
from policies.packs import load_packs
from policies.shadow import Shadow
from policies.vocabulary import Vocabulary

PROCESS_TTL = dt.timedelta(seconds=30)
PRESENCE_EVERY_S = 10.0
LAST_WORDS_S = 0.5
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
RELEASING = ("", "comity.v1.SearchService")  # not serving while nothing may be released
SERVICES = ("comity.v1.SearchService", "comity.v1.NodeLinkService", "comity.v1.PolicyService")
OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.so_reuseport", 0),  # else a second broker would silently share the port
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 8_000),
)
logger = structlog.get_logger("broker")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The three ports of shared state, and the connection behind them if there is one."""

    replay: ReplayGuard
    presence: Presence
    quota: Quota
    shared: SharedRedis | None

    @classmethod
    async def open(cls, url: str) -> State:
        """In Redis if `url` names one, else in this process.

        Raises:
            ConfigError, Unavailable: Redis is not fit for it, or does not answer.
        """
        clock = instants.now
        if not url:
            return cls(
                replay=InProcessReplayGuard(clock),
                presence=InProcessPresence(clock),
                quota=InProcessQuota(clock),
                shared=None,
            )
        shared = SharedRedis.open(url)
        await shared.check()
        return cls(
            replay=RedisReplayGuard(shared, clock),
            presence=RedisPresence(shared),
            quota=RedisQuota(shared, clock),
            shared=shared,
        )


class Broker:
    """One broker process."""

    def __init__(self, config: BrokerConfig, state_folder: Path, state: State, running: Running) -> None:
        self.config = config
        self._state = state
        self._folder = folder = IdentityFolder.load(state_folder / config.identity)
        if folder.spiffe.kind != "broker":
            raise ConfigError(f"{folder.path} is the identity of a {folder.spiffe.kind}, not of a broker")
        self.id = str(folder.spiffe)
        self.directory = folder.directory()
        self._running = running
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = DecisionLog.open(
            state_folder, clock=instants.now, on_broken=self._running.broken, auditors=self.directory.auditors
        )
        self._links = Links()
        self._bundles = bundles_of(self.directory, state.shared, state_folder)
        self._addresses: tuple[str, ...] = ()
        self._credentials = server_credentials(folder, self.directory.agency_authorities)
        self._health = Health(SERVICES)
        self._shadow = Shadow(random.SystemRandom())
        self._finishes = Finishes()
        self._witnessing = Witnessing(
            state_folder,
            log=self._log,
            directory=self.directory,
            broker=self.id,
            within_s=config.quorum_within_s,
            tiles_every_s=config.tiles_every_s,
            clock=instants.now,
            seconds=time.monotonic,
            changed=self._releasing,
        )
        self._search = self._build_search(folder)
        self._link_service = NodeLinkService(
            Attachments(
                directory=self.directory,
                links=self._links,
                log=self._log,
                presence=state.presence,
                bundles=self._bundles,
                clock=instants.now,
                broker=self.id,
                process=self._process,
                addresses=lambda: self._addresses,
                witnessing=self._witnessing.exchange,
            )
        )

    def _build_policies(self) -> PolicyService:
        search = self._search
        return PolicyService(
            Consultation(
                directory=self.directory,
                clock=instants.now,
                admission=search.admission,
                quota=search.quota,
                per_day=self.config.person_per_day,
                publishing=Publishing(
                    directory=self.directory,
                    bundles=self._bundles,
                    links=self._links,
                    log=self._log,
                    clock=instants.now,
                ),
                consulting=Consulting(search.decider, self._links, instants.now),
            )
        )

    @property
    def _process(self) -> str:
        return self.config.advertise_nodes or self.config.listen_nodes

    def _build_search(self, folder: IdentityFolder) -> Search:
        c, directory = self.config, self.directory
        return Search(
            directory=directory,
            decider=decider_of(directory, self._shadow),
            links=self._links,
            log=self._log,
            signer=folder.signer,
            replay=self._state.replay,
            presence=self._state.presence,
            quota=self._state.quota,
            admission=Admission(total=c.searches, per_agency=c.searches_per_agency, waiting=c.searches_per_agency),
            gate=self._witnessing.gate,
            limits=Limits(person_per_day=c.person_per_day, agency_per_day=c.agency_per_day),
            clock=instants.now,
            background=self._keep,
            finished=self._finishes.add,
        )

    async def serve(self) -> int:
        """Serve until a signal or a broken log. Returns the exit code: 0 stopped in order, 1 the log broke."""
        self._running.follow_signals()
        await self._log.append([start_entry(**self._run_fields(""))])
        servers = [
            self._server(self.config.listen_investigators, search=True),
            self._server(self.config.listen_nodes, search=False),
        ]
        admin = grpc.aio.server(options=OPTIONS)
        self._health.add_to(admin)
        tiles = self._witnessing.tiles
        admin_port = bind(admin, BEHIND, None)
        await self._state.presence.register_process(self._process, PROCESS_TTL)
        await self._refresh()
        await self._pull()
        for server in (*servers, admin):
            await server.start()
        await tiles.start(self.config.admin, admin_port, self._metrics)
        await self._health.set(SERVING)
        await self._health.set(NOT_SERVING, RELEASING)
        self._start(self._witnessing.exchange.run())
        self._start(self._stay_present())
        self._start(self._running.renew(self._folder, self.directory, self.config.renew_every_s, fit_to_serve))
        self._start(idle.keep_ahead(self._search.decider, self._shadow, self._links, instants.now))
        self._start(policies.follow(self._bundles.hints(), self._pull, hint_missed))
        gc.freeze()
        gc.set_threshold(*idle.COLLECT_AFTER)
        logger.info("serving", investigators=self.config.listen_investigators, nodes=self.config.listen_nodes)
        await self._running.ended.wait()
        await self._stop(servers, admin)
        return self._running.exit_code

    async def _stop(self, servers: list[grpc.aio.Server], admin: grpc.aio.Server) -> None:
        """Not serving; running searches end; goodbye on every stream; then the servers and the log."""
        broken = bool(self._running.exit_code)
        logger.info("stopping", exit_code=self._running.exit_code)
        await self._health.set(NOT_SERVING)
        # With a broken log nothing more is released; running calls only have time to hear why.
        grace = self.config.stop_grace_s if not broken else LAST_WORDS_S
        investigators, nodes = servers
        await investigators.stop(grace)
        self._link_service.goodbye("the broker starts anew" if self._running.anew else "the broker stops")
        await nodes.stop(2.0 if not broken else 0.0)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(ComityError):
            await self._state.presence.unregister_process(self._process)
        if self._state.shared is not None:
            await self._state.shared.close()
        if not self._log.broken:
            await self._log.append([stop_entry(**self._run_fields(self._running.why))])
        await self._witnessing.tiles.stop()
        self._witnessing.close()
        await asyncio.to_thread(self._log.close)
        await admin.stop(0)

    def _server(self, address: str, *, search: bool) -> grpc.aio.Server:
        server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=OPTIONS)
        if search:
            search_service_pb2_grpc.add_SearchServiceServicer_to_server(SearchService(self._search), server)
            policy_service_pb2_grpc.add_PolicyServiceServicer_to_server(self._build_policies(), server)
        else:
            node_link_service_pb2_grpc.add_NodeLinkServiceServicer_to_server(self._link_service, server)
        bind(server, address, self._credentials)
        return server

    def _run_fields(self, reason: str) -> dict[str, Any]:
        return {
            "program": "broker",
            "id": self.id.rpartition("/")[2],
            "software_version": version("comity"),
            "directory_version": self.directory.version,
            "reason": reason,
        }

    async def _stay_present(self) -> None:
        while True:
            await asyncio.sleep(PRESENCE_EVERY_S)
            try:
                await self._state.presence.register_process(self._process, PROCESS_TTL)
                nodes = [link.node for link in self._links]
                if nodes:
                    await self._state.presence.touch(nodes, self._process, instants.now())
                await self._refresh()
                await self._pull()
            except ComityError as error:
                logger.warning("presence not updated", reason=error.reason)

    async def _pull(self, node: str = "") -> None:
        """Policies that other processes took up, of this node or of all, so that a refusal is one here too."""
        nodes = self.directory.federation.nodes
        of = [node] if node in nodes else nodes
        taken = await policies.pull(of, self.directory, self._bundles, self._links, instants.now(), self._log.append)
        if taken:
            logger.info("policies taken up from the shared state", nodes=len(taken))

    async def _refresh(self) -> None:
        others = [p for p in await self._state.presence.processes() if p != self._process]
        self._addresses = (self._process, *others)

    def _releasing(self, now: bool) -> None:
        """Whoever watches the health hears whether searches are answered."""
        if not self._running.ended.is_set():
            self._start(self._health.set(SERVING if now else NOT_SERVING, RELEASING))

    def _metrics(self) -> bytes:
        return metrics(
            self._finishes,
            links=self._links,
            admission=self._search.admission,
            log=self._log,
            expires=self._folder.chain[0].not_valid_after_utc,
        )

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._keep(asyncio.ensure_future(work))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("background work failed", kind=type(error).__name__)


def hint_missed(node: str, error: Exception) -> None:
    """Say that a hint came to nothing."""
    logger.warning("hint not followed", node=node, kind=type(error).__name__)


def decider_of(directory: Directory, shadow: Shadow | None = None) -> Decider:
    """The broker's decider under the federation's packs.

    Raises:
        PolicyError: a pack is missing or refused.
    """
    federation = directory.federation
    vocabulary = Vocabulary.of(federation)
    policy = compiled(load_packs(federation.presets), vocabulary)
    # Unique is enough, and the system's randomness costs more than the decision: one draw a process.
    run, numbers = uuid.uuid4(), itertools.count(1)
    return Decider(federation, policy, Pep.BROKER, lambda: f"{run}-{next(numbers)}", shadow)


def fit_to_serve(directory: Directory) -> None:
    """Return if a broker starts under this directory; a running one must not end for one that it could not.

    Raises:
        ConfigError, PolicyError: as `enough_witnesses`, `decider_of`.
    """
    enough_witnesses(directory)
    decider_of(directory)


def bundles_of(directory: Directory, shared: SharedRedis | None, state_folder: Path) -> Bundles:
    """Where nodes' policies are held: in Redis under a name of this federation's own, else in the state folder.

    Versions count within a federation, so one that is made anew, with another authority, must not meet the old one's.

    Raises:
        ConfigError: the state folder does not hold them as they were written.
    """
    if shared is None:
        return FolderBundles(state_folder / FOLDER)
    pinned = b"".join(sorted(a.der for a in directory.anchors if a.federation))
    return RedisBundles(shared, prefix=f"{PREFIX}:{hashlib.sha256(pinned).hexdigest()[:16]}")


async def run(state_folder: Path) -> int:
    """Serve from `state_folder` until told to stop; anew whenever its certificate or directory is renewed.

    Raises:
        ComityError: the folder, the directory, a pack or the log is not fit to serve with.
    """
    logs.configure("broker", state_folder.name)
    running = Running("broker", instants.now)
    while True:
        config = BrokerConfig.load(state_folder)
        code = await Broker(config, state_folder, await State.open(config.redis_url), running).serve()
        if not running.anew:
            return code
        running.again()
        gc.unfreeze()
