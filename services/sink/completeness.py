"""Asks ClickHouse whether every exchange that an edge took in is accounted for; changes nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby

import msgspec

from services.sink.reader import Queries

SETTLE_S = 60
# Younger than this is a view of what is under way: spool, Kafka and two consumers lie between.
SETTLE_S_MIN = 1
# An edge beats once a second, and the sink takes one or two more; older than this, it is none to wait for.
ALIVE_S = 5.0
EDGES_MAX = 10_000  # processes; a fleet of a hundred that restarts hourly makes as many in four days
RANGES_NAMED_MAX = 20

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class EdgeAccount(msgspec.Struct, frozen=True, kw_only=True):
    """One edge process and its exchanges: accepted = stored + dead_lettered + shed + pending + missing.

    See schemas/clickhouse/0008_completeness.sql for what each number means.
    """

    edge_id: str
    began_at: datetime
    heartbeat_at: datetime | None
    is_silent: bool
    accepted: int
    finished: int
    open: int
    rated: int
    stored: int
    dead_lettered: int
    shed: int
    orphaned: int
    heartbeat_only: int
    pending: int
    missing: int
    missing_seqs: tuple[int, ...] = ()


COUNTS = (
    "accepted",
    "finished",
    "open",
    "rated",
    "stored",
    "dead_lettered",
    "shed",
    "orphaned",
    "heartbeat_only",
    "pending",
    "missing",
)
_MOMENTS = frozenset(("began_at", "heartbeat_at"))
_COLUMNS = ", ".join(
    f"toUnixTimestamp64Milli({name})" if name in _MOMENTS else name for name in EdgeAccount.__struct_fields__
)


async def accounts(clickhouse: Queries, since: datetime, settle_s: int = SETTLE_S) -> list[EdgeAccount]:
    """Give every edge process that was heard of since then, oldest first."""
    millis = (since - _EPOCH) // timedelta(milliseconds=1)
    rows = await clickhouse.rows(
        f"SELECT {_COLUMNS} FROM tollhouse.completeness"
        f"(since = fromUnixTimestamp64Milli({millis}, 'UTC'), settle_s = {settle_s}) "
        f"ORDER BY began_at, edge_id LIMIT {EDGES_MAX}"
    )
    return [_account(row) for row in rows]


def unheard(found: Sequence[EdgeAccount], began: datetime, now: datetime) -> bool:
    """Say whether an edge that is alive has not told yet how far it was at `began`."""
    alive_at = now - timedelta(seconds=ALIVE_S)
    return any(each.heartbeat_at is not None and alive_at <= each.heartbeat_at < began for each in found)


def ranges(numbers: Sequence[int]) -> str:
    """Write rising numbers for a person: 3-7, 9, and how many follow beyond RANGES_NAMED_MAX."""
    runs = [
        [number for _, number in run]
        for _, run in groupby(enumerate(numbers), key=lambda placed: placed[1] - placed[0])
    ]
    named = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs[:RANGES_NAMED_MAX]]
    rest = sum(map(len, runs[RANGES_NAMED_MAX:]))
    return ", ".join(named) + (f" and {rest} more" if rest else "")


def _account(row: Sequence[object]) -> EdgeAccount:
    members = dict(zip(EdgeAccount.__struct_fields__, row, strict=True))
    for name in _MOMENTS:
        if members[name] is not None:
            members[name] = _EPOCH + timedelta(milliseconds=int(str(members[name])))
    return msgspec.convert(members, EdgeAccount)
