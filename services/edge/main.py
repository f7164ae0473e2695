"""Puts an edge process together, and takes it apart without losing what it holds."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import structlog

from schemas.ids import new_edge_id
from services.edge.app import Gateway, create_app
from services.edge.client import Drains
from services.edge.config import EdgeConfig
from services.edge.forward import Forwarder
from services.edge.heartbeat import beat
from services.edge.orphans import close_orphans
from services.edge.recorder import Recorder
from services.edge.transport import AiohttpTransport
from services.runtime import metrics
from services.runtime.http import bind, serve
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher
from services.runtime.service import beside
from services.runtime.spool.adoption import open_spools
from services.runtime.spool.pump import Pump
from services.runtime.spool.store import Spool

log = structlog.get_logger(__name__)

# After the last exchange, how long Kafka may take for what is spooled; the rest waits on disk.
FLUSH_S_MAX = 5.0


async def run_edge(config: EdgeConfig, kafka: KafkaConfig, stopping: asyncio.Event) -> None:
    """Serve until `stopping` is set; then finish what is open, flush, and leave the rest in the spool."""
    listener = bind(config.host, config.port)
    spool, adopted = open_spools(
        Path(config.spool.directory), config.spool.bytes_max, fsync=config.spool.fsync
    )
    metrics.spool_bytes_max.set(spool.bytes_max)
    metrics.spool_bytes.set_function(lambda: spool.bytes)
    metrics.spool_entries.set_function(lambda: spool.entries)
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
    gateway = Gateway(config, edge_id, Recorder(spool, pump), forwarder)
    app = create_app(gateway, lambda: {"accepting": not stopping.is_set(), "spool": not spool.is_full})
    log.info("edge.started", edge_id=edge_id, host=config.host, port=config.port, orphans=orphans)
    pump.wake()
    try:
        async with beside(
            pump.run(),
            beat(edge_id, gateway, spool, heartbeats),
            *(_empty(each, kafka) for each in adopted),
        ):
            await serve(app, listener, stopping, config.shutdown_s_max)
    finally:
        await _flushed(pump)
        await transport.aclose()
        await publisher.close()
        await heartbeats.close()
        spool.close()
    log.info("edge.stopped", edge_id=edge_id, exchange_seq=gateway.exchange_seq, entries=spool.entries)


async def _empty(adopted: Spool, kafka: KafkaConfig) -> None:
    """Publish what a dead sibling left, and give its directory back however this ends."""
    publisher = Publisher(kafka)
    try:
        await Pump(adopted, publisher).drain()
        log.info("spool.adopted", source_id=adopted.source_id)
    finally:
        await publisher.close()
        adopted.close()


async def _flushed(pump: Pump) -> None:
    try:
        await asyncio.wait_for(pump.drain(), FLUSH_S_MAX)
    except TimeoutError:
        log.warning("spool.left_for_later")
