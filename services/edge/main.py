"""Puts an edge process together, and takes it apart without losing what it holds."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import structlog

from schemas.ids import new_edge_id
from services.edge.admin.routes import admin_router
from services.edge.app import Gateway, create_app
from services.edge.client import Drains
from services.edge.config import EdgeConfig
from services.edge.forward import Forwarder
from services.edge.heartbeat import Heart
from services.edge.orphans import adopt_the_dead, close_orphans, emptied
from services.edge.recorder import Recorder
from services.edge.registry.keeper import Keeper
from services.edge.reload import Read, Reloading, Reread
from services.edge.transport import AiohttpTransport
from services.runtime import metrics
from services.runtime.http import bind, serve
from services.runtime.http_protocol import ConnectionLimits
from services.runtime.kafka import KafkaConfig
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
    spool, adopted = open_spools(
        Path(config.spool.directory), config.spool.bytes_max, fsync=config.spool.fsync
    )
    _show(spool)
    orphans = sum(close_orphans(each, datetime.now(UTC)) for each in (spool, *adopted))
    publisher, heartbeats = Publisher(kafka), Publisher(kafka)
    pump = Pump(spool, publisher)
    upstream = config.upstream
    transport = AiohttpTransport(
        upstream.base_url,
        connect_s_max=upstream.connect_s_max,
        read_s_max=upstream.read_s_max,
        connections_max=upstream.connections_max,
    )
    edge_id = new_edge_id()
    forwarder = Forwarder(transport, Drains(config.drain), upstream.total_s_max)
    sync = GroupSync(spool) if config.spool.fsync else None
    recorder = Recorder(spool, pump, config.spool.when_full, sync)
    keeper = Keeper(kafka, edge_id, has_keys=bool(config.master_key))
    gateway = Gateway(config, edge_id, recorder, forwarder, keeper.registry)
    metrics.edge_body_bytes.set_function(lambda: gateway.body_memory.held)
    metrics.edge_batch_files_bytes.set_function(lambda: gateway.intake.room.held)
    app = create_app(
        gateway,
        lambda: {
            "accepting": not stopping.is_set(),
            "spool": recorder.is_accepting,
            "keys": keeper.registry.is_read,
        },
        admin_router(keeper.registry, keeper.writer, lambda: gateway.config.master_key)
        if config.master_key
        else None,
    )
    log.info("edge.started", edge_id=edge_id, host=config.host, port=config.port, orphans=orphans)
    reloading = [Reloading(reread, Read(config, kafka), gateway.reconfigure)] if reread else []
    heart = Heart(edge_id, gateway, spool, recorder)
    pump.wake()
    try:
        async with beside(
            pump.run(),
            heart.run(heartbeats),
            keeper.run(),
            adopt_the_dead(config.spool, kafka),
            *(emptied(each, kafka) for each in adopted),
            *(on_hangup(each.reload) for each in reloading),
        ):
            limits = ConnectionLimits(write_s_max=config.client_write_s_max)
            await serve(app, listener, stopping, config.shutdown_s_max, limits)
    finally:
        await _flushed(pump, heart, heartbeats)
        await transport.aclose()
        await publisher.close()
        await heartbeats.close()
        await keeper.close()
        if sync is not None:
            sync.close()
        spool.close()
    log.info("edge.stopped", edge_id=edge_id, exchange_seq=gateway.exchange_seq, entries=spool.entries)


def _show(spool: Spool) -> None:
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
