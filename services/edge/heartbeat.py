"""Says once a second that this edge lives and how far it is, so that what it lost can be counted."""

import asyncio
import contextlib
from datetime import UTC, datetime

from schemas import codec, topics
from schemas.edges import Heartbeat
from schemas.ids import EdgeId
from services.edge.app import Gateway
from services.edge.recorder import Recorder
from services.runtime.publisher import Publisher, PublishFailed
from services.runtime.records import OutgoingRecord
from services.runtime.spool.store import Spool

HEARTBEAT_S = 1.0


class Heart:
    """What an edge process says of itself."""

    def __init__(self, edge_id: EdgeId, gateway: Gateway, spool: Spool, recorder: Recorder) -> None:
        self._edge_id = edge_id
        self._gateway = gateway
        self._spool = spool
        self._recorder = recorder
        self._began = datetime.now(UTC)

    async def run(self, publisher: Publisher) -> None:
        """Beat until cancelled."""
        while True:
            await self.beat(publisher)
            await asyncio.sleep(HEARTBEAT_S)

    async def beat(self, publisher: Publisher) -> None:
        """Publish one heartbeat; one that cannot be published is not kept, the next says more."""
        event = Heartbeat(
            edge_id=self._edge_id,
            source_id=self._spool.source_id,
            at=datetime.now(UTC),
            process_started_at=self._began,
            exchange_seq=self._gateway.exchange_seq,
            open_exchanges=self._gateway.open_exchanges,
            spool_entries=self._spool.entries,
            spool_bytes=self._spool.bytes,
            shed=self._recorder.shed,
            oldest_open_seq=self._gateway.oldest_open_seq,
        )
        record = OutgoingRecord(
            topics.EDGES,
            codec.key(event),
            codec.encode(event),
            codec.headers(event, event.at.isoformat()),
        )
        with contextlib.suppress(PublishFailed):
            await publisher.publish([record])
