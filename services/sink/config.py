"""Holds what the sink can be told, and checks that its settings fit one another."""

from collections.abc import Iterable

import msgspec

from services.runtime.config import Variable

BLOCK_ROWS_LIMIT = 1_000_000  # ClickHouse splits larger blocks, and a block is held in memory here


class SinkConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the sink gathers, waits and answers probes.

    A block is inserted when it has `block_rows_max` rows or its first row has waited `block_wait_ms_max`:
    few large parts are what ClickHouse likes, and a second is how stale an analyst's view may be.
    usage_hourly is looked after every `hourly_every_s`.
    """

    group_id: str = "tollhouse.sink"
    group_instance_id: str = ""
    block_rows_max: int = 50_000
    block_wait_ms_max: int = 1_000
    retry_wait_ms_max: int = 10_000
    hourly_every_s: int = 60
    host: str = "127.0.0.1"
    port: int = 4012

    def faults(self) -> Iterable[str]:
        """Say what does not fit."""
        if not self.group_id:
            yield "group_id: must not be empty"
        if not 1 <= self.block_rows_max <= BLOCK_ROWS_LIMIT:
            yield f"block_rows_max: must be from 1 to {BLOCK_ROWS_LIMIT}"
        if self.block_wait_ms_max < 0:
            yield "block_wait_ms_max: must not be below 0"
        if self.retry_wait_ms_max < 1:
            yield "retry_wait_ms_max: must be above 0"
        if self.hourly_every_s < 1:
            yield "hourly_every_s: must be above 0"
        if not 0 <= self.port <= 65_535:
            yield "port: must be from 0 to 65535"


ENVIRONMENT = (
    Variable("TOLLHOUSE_SINK_HOST", "sink.host"),
    Variable("TOLLHOUSE_SINK_PORT", "sink.port"),
)
