"""Puts an edge process together, and takes it apart without losing what it holds."""

import asyncio
import socket
from datetime import UTC, datetime
from pathlib import Path

import structlog
from litestar import Litestar

from schemas.ids import new_edge_id
from services.edge.admin.routes import admin_router
from services.edge.app import Gateway, create_app
from services.edge.batches.ownership import Ownership
from services.edge.client import Drains
from services.edge.config import EdgeConfig
from services.edge.follower import Follower
from services.edge.forward import Forwarder
from services.edge.heartbeat import Heart
from services.edge.orphans import adopt_the_dead, close_orphans, emptied
from services.edge.recorder import Recorder
from services.edge.registry.keeper import Keeper
from services.edge.reload import Read, Reloading, Reread
from services.edge.transport import AiohttpTransport
from services.runtime import metrics
from services.runtime.http import serve
from services.runtime.http_protocol import ConnectionLimits
from services.runtime.kafka import KafkaConfig
from services.runtime.listener import bind
from services.runtime.publisher import Publisher
from services.runtime.service import beside, on_hangup
from services.runtime.spool.adoption import open_spools
from services.runtime.spool.pump import Pump
from services.runtime.spool.store import Spool
from services.runtime.spool.sync import GroupSync

log = structlog.get_logger(__name__)

# After the last exchange, how long Kafka may take for what is spooled; the rest waits on disk.
FLUSH_S_MAX = 5.0
# And for a last heartbeat, which says how many exchanges there were in all.
LAST_BEAT_S_MAX = 2.0


async def run_edge(
    config: EdgeConfig, kafka: KafkaConfig, stopping: asyncio.Event, reread: Reread | None = None
) -> None:
    """Serve until `stopping` is set; then finish what is open, flush, and leave the rest in the spool.

    With `reread` the settings that can change in a running edge are read again at every SIGHUP.
    """
    listener = bind(config.host, config.port)
    edge = _Edge(config, kafka)
    try:
        await edge.serve(listener, stopping, reread)
    finally:
        await edge.close()


class _Edge:
    """The parts of one process, put together once."""

    def __init__(self, config: EdgeConfig, kafka: KafkaConfig) -> None:
        self._config = config
        self._kafka = kafka
        self._edge_id = new_edge_id()
        self._spool, self._adopted = open_spools(
            Path(config.spool.directory), config.spool.bytes_max, fsync=config.spool.fsync
        )
        self._publisher, self._heartbeats = Publisher(kafka), Publisher(kafka)
        self._pump = Pump(self._spool, self._publisher)
        self._sync = GroupSync(self._spool) if config.spool.fsync else None
        self._recorder = Recorder(self._spool, self._pump, config.spool.when_full, self._sync)
        upstream = config.upstream
        self._transport = AiohttpTransport(
            upstream.base_url,
            connect_s_max=upstream.connect_s_max,
            read_s_max=upstream.read_s_max,
            connections_max=upstream.connections_max,
        )
        self._keeper = Keeper(kafka, self._edge_id, has_keys=bool(config.master_key))
        forwarder = Forwarder(self._transport, Drains(config.drain), upstream.total_s_max)
        self._ownership = Ownership(Publisher(kafka), is_read=not config.master_key)
        self._gateway = Gateway(
            config, self._edge_id, self._recorder, forwarder, self._keeper.registry, self._ownership
        )
        self._heart = Heart(self._edge_id, self._gateway, self._spool, self._recorder)
        _show(self._spool, self._gateway)

    async def serve(self, listener: socket.socket, stopping: asyncio.Event, reread: Reread | None) -> None:
        """Close what dead processes left open, then serve beside everything that goes on meanwhile."""
        config, kafka = self._config, self._kafka
        orphans = sum(close_orphans(each, datetime.now(UTC)) for each in (self._spool, *self._adopted))
        log.info("edge.started", edge_id=self._edge_id, host=config.host, port=config.port, orphans=orphans)
        reloading = [Reloading(reread, Read(config, kafka), self._gateway.reconfigure)] if reread else []
        self._pump.wake()
        async with beside(
            self._pump.run(),
            self._heart.run(self._heartbeats),
            self._keeper.run(),
            *([Follower(kafka, self._ownership).run()] if config.master_key else []),
            adopt_the_dead(config.spool, kafka),
            *(emptied(each, kafka) for each in self._adopted),
            *(on_hangup(each.reload) for each in reloading),
        ):
            limits = ConnectionLimits(write_s_max=config.client_write_s_max)
            await serve(self._app(stopping), listener, stopping, config.shutdown_s_max, limits)

    async def close(self) -> None:
        """Flush, then let go of everything; what Kafka has not taken stays in the spool."""
        await _flushed(self._pump, self._heart, self._heartbeats)
        await self._transport.aclose()
        await self._publisher.close()
        await self._heartbeats.close()
        await self._keeper.close()
        await self._ownership.close()
        if self._sync is not None:
            self._sync.close()
        self._spool.close()
        log.info(
            "edge.stopped",
            edge_id=self._edge_id,
            exchange_seq=self._gateway.exchange_seq,
            entries=self._spool.entries,
        )

    def _app(self, stopping: asyncio.Event) -> Litestar:
        gateway, registry = self._gateway, self._keeper.registry
        admin = admin_router(registry, self._keeper.writer, lambda: gateway.config.master_key)
        return create_app(
            gateway,
            lambda: {
                "accepting": not stopping.is_set(),
                "spool": self._recorder.is_accepting,
                "keys": registry.is_read,
                "batch_owners": self._ownership.is_read,
            },
            admin if self._config.master_key else None,
        )


def _show(spool: Spool, gateway: Gateway) -> None:
    metrics.edge_body_bytes.set_function(lambda: gateway.body_memory.held)
    metrics.edge_batch_files_bytes.set_function(lambda: gateway.intake.room.held)
    metrics.spool_bytes_max.set(spool.bytes_max)
    metrics.spool_bytes.set_function(lambda: spool.bytes)
    metrics.spool_entries.set_function(lambda: spool.entries)
    metrics.spool_open_exchanges.set_function(lambda: spool.open_exchanges)


async def _flushed(pump: Pump, heart: Heart, heartbeats: Publisher) -> None:
    try:
        await asyncio.wait_for(pump.drain(), FLUSH_S_MAX)
        await asyncio.wait_for(heart.beat(heartbeats), LAST_BEAT_S_MAX)
    except TimeoutError:
        log.warning("spool.left_for_later")
