"""What brings camera records in by itself besides the ingest stream: the webhook and the watched folder."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from comity import config as addresses
from comity.errors import ComityError
from identity.directory import Directory
from identity.folder import IdentityFolder
from node.config import NodeConfig
from node.counters import Counters
from node.images import Images
from node.ingest import WEBHOOK, Ingester
from node.rpc.senders import Senders, load_tokens
from node.rpc.webhook import Webhook
from node.rpc.webhook_tls import server_context, take_up
from node.watch import Watch

IMAGES_FOLDER = "images"
FLUSH_EVERY_S = 5.0
RENEW_EVERY_S = 60.0
logger = structlog.get_logger("intake")


@dataclass(slots=True, kw_only=True)
class Intake:
    """Starts and stops them, and purges what they leave on the disk. A node without either key only counts."""

    config: NodeConfig
    folder: IdentityFolder
    directory: Directory
    agency: str
    counters: Counters
    images: Images
    webhook: Webhook | None
    watch: Watch | None
    tasks: list[asyncio.Task[None]]

    @classmethod
    def open(
        cls,
        state: Path,
        config: NodeConfig,
        *,
        folder: IdentityFolder,
        directory: Directory,
        agency: str,
        ingester: Ingester,
        counters: Counters,
        clock: Callable[[], dt.datetime],
    ) -> Intake:
        """What `config` asks for; relative paths are under `state`.

        Raises:
            ConfigError: the token file or the watched folder is wrong.
        """
        webhook = watch = None
        if config.webhook:
            tokens = load_tokens(state / config.webhook_tokens) if config.webhook_tokens else {}
            senders = Senders(tokens, directory, agency, clock)
            webhook = Webhook(ingester, senders, on_refused=lambda why: counters.add(WEBHOOK, {f"refused:{why}": 1}))
        if config.watch:
            watch = Watch(state / config.watch, ingester, clock)
            watch.prepare()
        return cls(
            config=config,
            folder=folder,
            directory=directory,
            agency=agency,
            counters=counters,
            images=Images(state / IMAGES_FOLDER),
            webhook=webhook,
            watch=watch,
            tasks=[],
        )

    async def start(self) -> None:
        """Listen and look.

        Raises:
            ConfigError: ADDRESS_TAKEN, BAD_KEY.
        """
        if self.webhook:
            host, port = addresses.address(self.config.webhook, key="webhook")
            roots = self.directory.authorities_of(self.agency)
            context = server_context(self.folder, roots)
            bound = await self.webhook.start(host, port, context)
            logger.info("webhook listens", port=bound)
            self.tasks.append(asyncio.ensure_future(self._renew(context)))
        if self.watch:
            self.tasks.append(asyncio.ensure_future(self.watch.run(self.config.watch_every_s)))
        self.tasks.append(asyncio.ensure_future(self._flush()))

    async def stop(self) -> None:
        """Take nothing more in; what was counted is in the file."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.webhook:
            await self.webhook.stop()
        self._flush_once()

    def purge(self, now: dt.datetime, before: dt.datetime) -> None:
        """Pictures and files past their retention are gone; `before` is that of detections.

        Raises:
            Unavailable: not all of them.
        """
        own = dt.timedelta(seconds=self.config.image_retention_s)
        self.images.purge(max(before, now - own) if own else before)
        if self.watch:
            self.watch.purge(before)

    async def _renew(self, context: ssl.SSLContext) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                take_up(context, self.folder)
            except ComityError as error:
                logger.error("certificate not taken up", reason=error.reason)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await asyncio.to_thread(self._flush_once)

    def _flush_once(self) -> None:
        try:
            self.counters.flush()
        except ComityError as error:
            logger.warning("counters not written", reason=error.reason)
