"""Tells what is only late from what is lost: by what Kafka holds that consumers have not done, and by spools.

Whatever lay in Kafka when this began has its row, or its dead letter, once rating has done all of usage and
the sink all that came of it. What is missing then never got to Kafka: an edge still has it, or nobody has.
"""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import click
import msgspec

from schemas.topics import DLQ_SUFFIX, RATED, USAGE
from services.cli.settings import Settings
from services.runtime.clickhouse import ClickHouse
from services.runtime.lag import Ends, KafkaSilent, LagReader, lag_reader
from services.runtime.stopping import until_stopped
from services.sink.completeness import EdgeAccount, accounts, spools_waiting

# Consumers that keep up have done what there is within two or three seconds.
PASS_S_MAX = 15.0
POLL_S = 0.2
BOOKED = (RATED, RATED + DLQ_SUFFIX, USAGE + DLQ_SUFFIX)


class Window(NamedTuple):
    """Which exchanges are looked at, and how long their records may take."""

    since: datetime
    settle_s: int


class Lag(NamedTuple):
    """How many records rating and the sink have still to do; `fault` says why that is not known."""

    rating: int = 0
    sink: int = 0
    fault: str = ""

    @property
    def is_behind(self) -> bool:
        """Whether anything that is missing may lie in Kafka."""
        return self.rating + self.sink > 0


class Verdict(NamedTuple):
    """The accounts with what is late taken out of what is missing, and why it is late."""

    accounts: Sequence[EdgeAccount]
    lag: Lag = Lag()
    spools: Mapping[str, int] = {}


async def judged(
    settings: Settings,
    clickhouse: ClickHouse,
    window: Window,
    wait_s: float,
    stopping: asyncio.Event,
) -> Verdict:
    """Look once more when consumers have done what Kafka held, and judge no exchange that was not judged."""
    began = time.monotonic()
    # In this order: what left a spool before this look is in Kafka before its ends are asked for.
    spools = await spools_waiting(clickhouse, window.since, window.settle_s)
    lag = await _passed(settings, time.monotonic() + max(wait_s, PASS_S_MAX), stopping)
    elapsed_s = math.ceil(time.monotonic() - began)
    found = await accounts(clickhouse, window.since, window.settle_s + elapsed_s)
    return Verdict([_split(each, lag, spools) for each in found], lag, spools)


def _split(account: EdgeAccount, lag: Lag, spools: Mapping[str, int]) -> EdgeAccount:
    """Call all that an edge misses late where any of it may still come."""
    is_waiting = not account.is_silent and account.edge_id in spools
    if not account.missing or not (lag.is_behind or is_waiting):
        return account
    return msgspec.structs.replace(account, missing=0, missing_seqs=(), late=account.missing)


async def _passed(settings: Settings, deadline: float, stopping: asyncio.Event) -> Lag:
    """Wait until both groups have done what Kafka holds now; give what they have not when the time is up."""
    try:
        async with lag_reader(settings.kafka) as reader:
            ends = await reader.ends((USAGE,))
            rating = await _left(reader, settings.rating.group_id, ends, deadline, stopping)
            # Asked for now: what came of usage is acknowledged before usage is committed.
            ends = await reader.ends(BOOKED)
            sink = await _left(reader, settings.sink.group_id, ends, deadline, stopping)
            return Lag(rating, sink)
    except KafkaSilent as exc:
        return Lag(fault=f"Kafka at {settings.kafka.bootstrap_servers} {exc}")


async def _left(
    reader: LagReader, group_id: str, ends: Ends, deadline: float, stopping: asyncio.Event
) -> int:
    said = False
    while True:
        behind = await reader.behind(group_id, ends)
        left_s = deadline - time.monotonic()
        if not behind or left_s <= 0 or stopping.is_set():
            return behind
        if not said:
            click.echo(f"waiting: {group_id} has {behind} records to do", err=True)
            said = True
        await until_stopped(asyncio.sleep(min(POLL_S, left_s)), stopping, 0.0)


def advice(verdict: Verdict) -> list[str]:
    """Say why something is late, and what to look at."""
    lag = verdict.lag
    lines: list[str] = []
    if lag.fault and any(each.missing for each in verdict.accounts):
        lines.append(f"{lag.fault}, so that what is late cannot be told from what is lost")
    if not any(each.late for each in verdict.accounts):
        return lines
    if lag.rating:
        lines.append(
            f"late: rating has {lag.rating} records of {USAGE} to do; is it running, and is its "
            "/health/readiness 200? Its log says what stands in the way (consumer.*)"
        )
    if lag.sink:
        lines.append(
            f"late: the sink has {lag.sink} records of {RATED} and dead letters to do; is it running, and is "
            "ClickHouse well (sink_store_away, sink.store_went_away in its log)?"
        )
    for each in verdict.accounts:
        if each.late and each.edge_id in verdict.spools:
            lines.append(
                f"late: edge {each.edge_id} has {verdict.spools[each.edge_id]} entries in its spool; see "
                "spool.publish_failed in its log, and `tollhouse spool list` where it runs"
            )
    return lines
