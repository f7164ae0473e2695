"""The event that says how an exchange ended; published on gateway.responses.v1."""

from datetime import datetime

import msgspec

from schemas.exchange import Operation, Outcome
from schemas.ids import EdgeId, RequestId, VirtualKeyId


class ResponseFinished(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an exchange as the edge saw it; `http_status` is what the client was sent, 0 for nothing."""

    request_id: RequestId
    started_at: datetime
    finished_at: datetime
    edge_id: EdgeId
    exchange_seq: int
    virtual_key_id: VirtualKeyId
    operation: Operation
    endpoint: str
    outcome: Outcome
    http_status: int
    error_type: str = ""
    stop_reason: str = ""
    upstream_request_id: str = ""
    response_bytes: int = 0
    ttfb_ms: int = 0
    duration_ms: int = 0
    overhead_us: int = 0
