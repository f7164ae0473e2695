"""Says once a second that this edge lives and how far it is, so that what it lost can be counted."""

import asyncio
import contextlib
from datetime import UTC, datetime

from schemas import codec, topics
from schemas.edges import Heartbeat
from schemas.ids import EdgeId
from services.edge.app import Gateway
from services.runtime.publisher import Publisher, PublishFailed
from services.runtime.records import OutgoingRecord
from services.runtime.spool.store import Spool

HEARTBEAT_S = 1.0


async def beat(edge_id: EdgeId, gateway: Gateway, spool: Spool, publisher: Publisher) -> None:
    """Publish heartbeats until cancelled; one that cannot be published is not kept, the next says more."""
    began = datetime.now(UTC)
    while True:
        event = Heartbeat(
            edge_id=edge_id,
            source_id=spool.source_id,
            at=datetime.now(UTC),
            process_started_at=began,
            exchange_seq=gateway.exchange_seq,
            open_exchanges=gateway.open_exchanges,
            spool_entries=spool.entries,
            spool_bytes=spool.bytes,
        )
        record = OutgoingRecord(
            topics.EDGES,
            codec.key(event),
            codec.encode(event),
            codec.headers(event, event.at.isoformat()),
        )
        with contextlib.suppress(PublishFailed):
            await publisher.publish([record])
        await asyncio.sleep(HEARTBEAT_S)
