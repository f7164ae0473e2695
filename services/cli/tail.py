"""`tollhouse tail`: prints rated usage as it is published; reads beside every group and commits nothing."""

# aiokafka annotates only part of its API.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import asyncio
import contextlib
import os
from decimal import Decimal
from pathlib import Path

import click
from aiokafka.errors import KafkaError

from schemas import codec
from schemas.rated import RatedUsage
from schemas.topics import RATED
from services.cli import settings as settings_file
from services.cli.columns import printable
from services.cli.outcome import done
from services.runtime.errors import StartRefused
from services.runtime.groupless import Begin, groupless, require_topic
from services.runtime.kafka import KafkaConfig
from services.runtime.service import run_command

POLL_MS = 200
COLUMNS = (
    f"{'started_at':<24} {'key':<20} {'operation':<12} {'model':<22} {'outcome':<14} {'usage':<9} "
    f"{'input':>9} {'cached':>9} {'output':>8}  {'cost_usd':<16} request_id"
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print each event as it stands in Kafka, one a line.")
@click.option("--from-beginning", is_flag=True, help="Begin with the oldest event that Kafka still has.")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many.")
@click.pass_obj
def tail(path: Path | None, as_json: bool, from_beginning: bool, limit: int | None) -> None:
    """Print rated usage as it happens."""
    loaded = done(lambda: settings_file.load(path, os.environ, {}))
    where: Begin = "earliest" if from_beginning else "latest"
    if not as_json:
        click.echo(COLUMNS)

    async def follow(stopping: asyncio.Event) -> None:
        await _follow(loaded.kafka, where, limit, as_json, stopping)

    raise SystemExit(run_command(follow))


async def _follow(
    kafka: KafkaConfig,
    where: Begin,
    limit: int | None,
    as_json: bool,
    stopping: asyncio.Event,
) -> None:
    printed = 0
    async with contextlib.AsyncExitStack() as held:
        try:
            consumer = await held.enter_async_context(groupless(kafka, where))
        except (KafkaError, OSError) as exc:
            raise StartRefused(f"cannot reach Kafka at {kafka.bootstrap_servers}: {exc}.") from exc
        await require_topic(consumer, kafka, RATED)
        consumer.subscribe([RATED])
        while not stopping.is_set() and (limit is None or printed < limit):
            polled = await consumer.getmany(timeout_ms=POLL_MS)
            for record in (record for run in polled.values() for record in run):
                if limit is not None and printed >= limit:
                    break
                click.echo((record.value or b"") if as_json else _line(record.value))
                printed += 1


def _line(value: bytes | None) -> str:
    try:
        rated = codec.decode(RatedUsage, value)
    except codec.Undecodable as exc:
        return f"(not a rated usage: {exc})"
    usage, tokens = rated.usage, rated.usage.tokens
    cached = tokens.cache_read_tokens + tokens.cache_write_5m_tokens + tokens.cache_write_1h_tokens
    cost = f"{rated.cost_usd.normalize():f}" if rated.cost_usd != Decimal(0) else rated.cost_status
    line = (
        f"{usage.started_at:%Y-%m-%d %H:%M:%S.%f}"[:-3].ljust(24)
        + f" {usage.attribution.virtual_key_id:<20} {usage.operation:<12} "
        + f"{usage.model_served or usage.model_requested:<22} {usage.outcome:<14} {usage.usage_status:<9} "
        + f"{tokens.input_tokens:>9} {cached:>9} {tokens.output_tokens:>8}  {cost:<16} {usage.request_id}"
    )
    # Names come from callers, and a terminal obeys what is not printable.
    return printable(line)
