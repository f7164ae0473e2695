"""The heartbeat of an edge: how far it is, each second; published on gateway.edges.v1."""

from datetime import datetime

import msgspec

from schemas.ids import EdgeId, SourceId


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """Proof of life; `exchange_seq` is the last number given out, so that a gap can be seen from outside.

    `shed` of them were served without a record, as the spool was full and the edge is told to go on then.
    Every number below `oldest_open_seq` has closed; 0 where none is open, or an earlier release does not say.
    """

    edge_id: EdgeId
    source_id: SourceId
    at: datetime
    process_started_at: datetime
    exchange_seq: int
    open_exchanges: int
    spool_entries: int
    spool_bytes: int
    shed: int = 0
    oldest_open_seq: int = 0
