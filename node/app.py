"""Builds the node from its state folder, serves, and stops in order. The only file that knows every adapter."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import structlog

from audit.entry import Draft, start_entry, stop_entry
from audit.log import DecisionLog
from audit.tile_http import BEHIND
from comity import instants, logs
from comity.admin import NOT_SERVING, SERVING, Health
from comity.decision import Pep
from comity.errors import ComityError, Unavailable
from comity.serving import bind
from comity.status import ErrorInterceptor
from comity.v1 import ingest_service_pb2_grpc
from comity.v1 import node_link_service_pb2 as link_pb2
from identity.running import Running
from identity.tls import client_credentials, server_credentials
from node import policy
from node.attach import Attachment, Brokers
from node.intake import Intake
from node.kept import Kept
from node.metrics import NodeMetrics
from node.parts import Parts, guard_of
from node.policy import OwnPolicy
from node.quota import Quotas
from node.retention import ClockGuard, known_ms
from node.rpc.ingest_service import IngestService
from node.search import Search
from node.witnessing import Witnessing
from policies.decide import Decider
from policies.engine import compiled
from policies.packs import load_packs
from policies.vocabulary import Vocabulary

SEAL_EVERY_S = 60.0
PROVE_EVERY_S = 86_400.0
FIRST_PURGE_S = 30.0  # after each start: one that is to come once a day never would, if certificates last half of one
RECORDED_WITHIN_S = 60.0
RESTART_AFTER_S = 60.0
logger = structlog.get_logger("node")


class NodeProgram:
    """One node."""

    def __init__(self, state: Path, running: Running, guard: ClockGuard | None = None) -> None:
        self._parts = p = Parts.open(state)
        self._running = running
        self._policy_due = asyncio.Event()
        self._looking = asyncio.Lock()
        self._log = DecisionLog.open(state, clock=instants.now, on_broken=running.broken, auditors=p.directory.auditors)
        self._policy = OwnPolicy.load(state / policy.FILE, p.directory, p.node, instants.now())
        self._kept = Kept(state)
        self._quotas = Quotas(state)
        self._health = Health(["comity.v1.IngestService"] if p.config.ingest else [])
        federation = p.directory.federation
        federation_policy = compiled(load_packs(federation.presets), Vocabulary.of(federation))
        self._search = Search(
            node=p.node,
            agency=p.agency,
            retention_s=p.retention_s,
            directory=p.directory,
            decider=Decider(federation, federation_policy, Pep.NODE, _new_id),
            policy=self._policy,
            log=self._log,
            store=p.store,
            kept=self._kept,
            quotas=self._quotas,
            signer=p.folder.signer,
            clock=instants.now,
            new_id=_new_id,
            say_hello=self._say_hello,
            mobile_cameras=p.config.mobile,
        )
        self._witnessing = Witnessing(
            state,
            log=self._log,
            directory=p.directory,
            node=p.node,
            tiles_every_s=p.config.tiles_every_s,
            clock=instants.now,
            seconds=time.monotonic,
        )
        self._brokers = Brokers(p.config.brokers, self._attachment())
        self._intake = Intake.open(
            state,
            p.config,
            folder=p.folder,
            directory=p.directory,
            agency=p.agency,
            ingester=p.ingester,
            counters=p.counters,
            clock=instants.now,
        )
        self.guard = guard or guard_of(known_ms(state, self._log))
        self._retention = p.retention(state, self._record, guard=self.guard)
        self._metrics = NodeMetrics(
            state,
            status=p.store.status,
            log=self._log,
            brokers=lambda: self._brokers.welcomed,
            expires=p.folder.chain[0].not_valid_after_utc,
        )
        self._done = self._metrics.done
        # A seal takes minutes: it must not take a thread from the searches.
        self._housekeeper = ThreadPoolExecutor(1, thread_name_prefix="housekeeping")

    def _attachment(self) -> Attachment:
        return Attachment(
            credentials=client_credentials(self._parts.folder),
            hello=self._hello,
            run=self._search.run,
            on_broken=self._running.end,
            witnessing=self._witnessing.exchange,
            look=self._look_for_policy,
        )

    async def serve(self) -> int:
        """Serve until a signal or a broken log. Returns the exit code: 0 stopped in order, 1 the log broke."""
        loop, running = asyncio.get_running_loop(), self._running
        running.follow_signals(self._policy_due.set)
        await self._log.append([start_entry(**self._run_fields("")), policy.taken_up_entry(self._policy.published)])
        servers = self._servers()
        for server in servers:
            await server.start()
        if self._parts.config.admin:
            await self._witnessing.tiles.start(self._parts.config.admin, self._admin_port, self._metrics.text)
        await self._intake.start()
        self._brokers.start()
        await self._health.set(SERVING)
        self._loop = loop
        jobs = (self._renew_policy, self._renew_identity, self._purge, self._seal, self._witnessing.exchange.run)
        tasks = [asyncio.ensure_future(kept_up(job, RESTART_AFTER_S)) for job in jobs]
        gc.freeze()
        logger.info("serving", brokers=self._parts.config.brokers, policy=self._policy.published.policy.digest[:12])
        await running.ended.wait()
        logger.info("stopping", exit_code=running.exit_code)
        await self._health.set(NOT_SERVING)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not running.exit_code:
            await self._brokers.leave("the node starts anew" if running.anew else "the node stops")
        await self._intake.stop()
        for server in servers:
            await server.stop(2.0 if not running.exit_code else 0.0)
        if not self._log.broken:
            await self._log.append([stop_entry(**self._run_fields(running.why))])
        await self._witnessing.tiles.stop()
        self._witnessing.close()
        await asyncio.to_thread(self._log.close)
        self._kept.close()
        self._quotas.close()
        self._parts.store.close()  # a seal that is under way ends with STORE_CLOSED and is done again next time
        self._housekeeper.shutdown(wait=False, cancel_futures=True)
        return running.exit_code

    def _servers(self) -> list[grpc.aio.Server]:
        p, out = self._parts, []
        if p.config.ingest:
            server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=[("grpc.so_reuseport", 0)])
            service = IngestService(p.ingester, p.directory, p.agency, instants.now)
            ingest_service_pb2_grpc.add_IngestServiceServicer_to_server(service, server)
            credentials = server_credentials(p.folder, p.directory.authorities_of(p.agency))
            bind(server, p.config.ingest, credentials)
            out.append(server)
        if p.config.admin:
            admin = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            self._health.add_to(admin)
            self._admin_port = bind(admin, BEHIND, None)
            out.append(admin)
        return out

    def _hello(self) -> link_pb2.Hello:
        return link_pb2.Hello(
            node=self._parts.node,
            directory_version=self._parts.directory.version,
            bundle=self._policy.published.data,
        )

    def _say_hello(self) -> None:
        self._brokers.renew()

    async def _renew_identity(self) -> None:
        p = self._parts
        await self._running.renew(p.folder, p.directory, p.config.renew_every_s)

    async def _renew_policy(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._parts.config.renew_every_s):
                    await self._policy_due.wait()
            self._policy_due.clear()
            try:
                await self._look_for_policy()
            except ComityError as error:
                logger.warning("policy not renewed", reason=error.reason)

    async def _look_for_policy(self) -> bool:
        """True if there was a new policy file, which is in force now and was told to every broker.

        Raises:
            Unavailable, Exhausted, LogBroken: it could not be recorded, and so was not taken up.
        """
        async with self._looking:
            if not await self._policy.renew(self._log, instants.now()):
                return False
            logger.info("policy taken up", policy=self._policy.published.policy.digest[:12])
            self._brokers.renew()
            return True

    async def _purge(self) -> None:
        """What is past its retention leaves the disk; a log entry an hour says how much."""
        p, loop = self._parts, asyncio.get_running_loop()
        wait_s = min(p.config.purge_every_s, FIRST_PURGE_S)
        while True:
            await asyncio.sleep(wait_s)
            now = instants.now()
            before = now - dt.timedelta(seconds=min(p.retention_s, self._policy.published.retention_s))
            try:
                await asyncio.to_thread(self._retention.check_clock, now)  # pictures go by the same clock
                await asyncio.to_thread(self._kept.purge, now)
                await asyncio.to_thread(p.ingester.purge_set_aside, before)
                await asyncio.to_thread(self._intake.purge, now, before)
                report = await loop.run_in_executor(self._housekeeper, self._retention.run, now, before)
                self._done.purge(report.rows, report.held)
            except ComityError as error:
                self._done.failing["purge"] = error.reason
                logger.error("not purged", reason=error.reason)
            wait_s = p.config.purge_every_s

    async def _seal(self) -> None:
        """Hot segments become sealed parts, and every part is read once a day to see that it is what was sealed."""
        sealer, loop, proved_at = self._parts.store.sealer, asyncio.get_running_loop(), -PROVE_EVERY_S
        while True:
            try:
                if time.monotonic() - proved_at >= PROVE_EVERY_S:
                    await loop.run_in_executor(self._housekeeper, sealer.prove)
                    proved_at = time.monotonic()
                sealed = await loop.run_in_executor(self._housekeeper, sealer.run)
                self._done.failing.pop("seal", None)
                if sealed.rows:
                    logger.info("sealed", hot=sealed.hot, merged=sealed.merged, rows=sealed.rows)
            except ComityError as error:
                self._done.failing["seal"] = error.reason
                logger.error("not sealed", reason=error.reason)
            await asyncio.sleep(SEAL_EVERY_S)

    def _record(self, draft: Draft) -> None:
        """Return when the entry is durable; called from the housekeeper's thread."""
        appended = self._log.append([draft], deadline_s=RECORDED_WITHIN_S)
        try:
            asyncio.run_coroutine_threadsafe(appended, self._loop).result(2 * RECORDED_WITHIN_S)
        except (TimeoutError, CancelledError):
            raise Unavailable("the node stops: nothing is purged", reason="STOPPING") from None

    def _run_fields(self, reason: str) -> dict[str, Any]:
        return {
            "program": "node",
            "id": self._parts.node,
            "software_version": version("comity"),
            "directory_version": self._parts.directory.version,
            "reason": reason,
        }


async def kept_up(job: Callable[[], Awaitable[None]], rest_s: float) -> None:
    """Never returns: `job`, and after a rest again whenever a defect ends it.

    A node that silently purges no more would keep what it may not.
    """
    while True:
        try:
            await job()
        except Exception as error:
            logger.error("background work failed", job=getattr(job, "__name__", ""), kind=type(error).__name__)
        await asyncio.sleep(rest_s)


def _new_id() -> str:
    return str(uuid.uuid4())


async def run(state: Path) -> int:
    """Serve from `state` until told to stop; anew whenever its certificate or directory is renewed.

    Raises:
        ComityError: the folder, the directory, the policy, the store or the log is not fit to serve with.
    """
    logs.configure("node", state.name)
    running = Running("node", instants.now)
    guard: ClockGuard | None = None
    while True:
        program = NodeProgram(state, running, guard)
        code = await program.serve()
        if not running.anew:
            return code
        # A jump of the clock that it waits out is not forgotten with a certificate that is renewed meanwhile.
        guard = program.guard
        del program
        running.again()
        gc.unfreeze()
