"""The event that says an exchange began: who asked for what; published on gateway.requests.v1."""

from datetime import datetime

import msgspec

from schemas.attribution import Attribution
from schemas.exchange import Operation
from schemas.ids import EdgeId, RequestId


class RequestStarted(msgspec.Struct, frozen=True, kw_only=True):
    """An authenticated request, written before it goes upstream.

    `cut` names what of the attribution was left out so that the event fits a record: `metadata`, `tags`.
    """

    request_id: RequestId
    started_at: datetime
    edge_id: EdgeId
    exchange_seq: int
    attribution: Attribution
    method: str
    operation: Operation
    endpoint: str
    model_requested: str = ""
    is_stream: bool = False
    request_bytes: int = 0
    client_user_agent: str = ""
    anthropic_version: str = ""
    anthropic_beta: str = ""
    cut: tuple[str, ...] = ()
