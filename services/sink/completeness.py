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
    """One edge process: accepted = stored + dead_lettered + shed + pending + late + missing.

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
    late: int = 0  # of what is missing, what may still come; nobody knows that from ClickHouse alone


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
    "late",
    "missing",
)
_MOMENTS = frozenset(("began_at", "heartbeat_at"))
_READ = tuple(name for name in EdgeAccount.__struct_fields__ if name != "late")
_COLUMNS = ", ".join(f"toUnixTimestamp64Milli({name})" if name in _MOMENTS else name for name in _READ)


async def accounts(clickhouse: Queries, since: datetime, settle_s: int = SETTLE_S) -> list[EdgeAccount]:
    """Give every edge process that was heard of since then, oldest first."""
    rows = await clickhouse.rows(
        f"SELECT {_COLUMNS} FROM tollhouse.completeness"
        f"(since = {_moment(since)}, settle_s = {settle_s}) "
        f"ORDER BY began_at, edge_id LIMIT {EDGES_MAX}"
    )
    return [_account(row) for row in rows]


async def spools_waiting(clickhouse: Queries, since: datetime, settle_s: int) -> dict[str, int]:
    """Give the edges whose spool may still hold what was judged, and how many entries it has.

    Each exchange that was not shed appends an entry, and entries leave in order. So where no more of them
    wait than exchanges began after the heartbeat that was judged by, all that was judged has left.
    """
    rows = await clickhouse.rows(
        "SELECT edge_id, argMax(spool_entries, at) AS waiting, "
        "argMax(toInt64(exchange_seq) - toInt64(shed) - toInt64(open_exchanges), at) "
        "- maxIf(toInt64(exchange_seq) - toInt64(shed), "
        f"ingested_at <= now64(3, 'UTC') - toIntervalSecond({settle_s})) AS began_since "
        f"FROM tollhouse_raw.edges WHERE at >= {_moment(since)} - INTERVAL 1 HOUR GROUP BY edge_id "
        f"HAVING waiting > greatest(0, began_since) ORDER BY edge_id LIMIT {EDGES_MAX}"
    )
    return {str(edge_id): int(str(waiting)) for edge_id, waiting, _ in rows}


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


def _moment(at: datetime) -> str:
    return f"fromUnixTimestamp64Milli({(at - _EPOCH) // timedelta(milliseconds=1)}, 'UTC')"


def _account(row: Sequence[object]) -> EdgeAccount:
    members = dict(zip(_READ, row, strict=True))
    for name in _MOMENTS:
        if members[name] is not None:
            members[name] = _EPOCH + timedelta(milliseconds=int(str(members[name])))
    return msgspec.convert(members, EdgeAccount)
