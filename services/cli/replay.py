"""`tollhouse replay`: rebuilds usage from Kafka in a shadow, shows what differs, swaps them when told to."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypedDict, Unpack

import click
import msgspec

from schemas.topics import RATED
from services.cli import settings as settings_file
from services.cli.columns import table
from services.cli.outcome import done
from services.cli.settings import Settings
from services.runtime.clickhouse import MISSING_CODES, ClickHouse, StoreError
from services.runtime.errors import ServiceStopped, StartRefused
from services.runtime.log_range import log_reader
from services.runtime.service import Main, run_command
from services.sink import shadow
from services.sink.shadow import DIFFERENCES_MAX, Difference
from services.sink.store import BlockStore

DATES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")
HEAD = ("day", "model", "key", "only here", "only there", "different", "cost there less here, USD")
PROGRESS_S = 2.0
# What comes of EXCHANGE on a database engine that cannot: NOT_IMPLEMENTED, BAD_ARGUMENTS.
_NO_EXCHANGE_CODES = frozenset({36, 48})


class _Options(TypedDict):
    since: datetime
    until: datetime | None
    into: str
    swap: bool
    yes: bool
    as_json: bool


class _Report(msgspec.Struct, kw_only=True):
    """What a replay found."""

    since: datetime
    until: datetime
    records: int = 0
    rows: int = 0
    unusable: int = 0
    is_cut: bool = False
    is_swapped: bool = False
    differences: list[Difference] = []


@click.command()
@click.option(
    "--from",
    "since",
    required=True,
    type=click.DateTime(DATES),
    metavar="TIME",
    help="From which moment of the log, in UTC.",
)
@click.option(
    "--to", "until", type=click.DateTime(DATES), metavar="TIME", help="Up to which, in UTC.  [default: now]"
)
@click.option(
    "--into", required=True, type=click.Choice(["shadow"]), help="tollhouse_raw.usage_shadow, beside usage."
)
@click.option("--swap", is_flag=True, help="Then put the shadow in the place of usage.")
@click.option("--yes", is_flag=True, help="Swap without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object in place of a table.")
@click.pass_obj
def replay(path: Path | None, **options: Unpack[_Options]) -> None:
    """Rebuild usage from gateway.rated.v1 in a shadow table, and print where the two differ.

    Times are those at which records were appended to the log, which keeps 30 days. No consumer group is
    touched, live traffic goes on. A run that was interrupted can be run again, and begins from nothing.

    --swap exchanges the tables. What only usage has, such as everything outside of the times, is copied into
    the shadow first, so that no row is lost; the old table is kept under another name.
    """
    settings = done(lambda: settings_file.load(path, os.environ, {}))
    since = options["since"].replace(tzinfo=UTC)
    until = options["until"].replace(tzinfo=UTC) if options["until"] else datetime.now(UTC)
    found = _Report(since=since, until=until)

    async def look(stopping: asyncio.Event) -> None:
        if since >= until:
            raise StartRefused("--from must lie before --to.")
        await _with_clickhouse(settings, lambda clickhouse: _filled(settings, clickhouse, found, stopping))

    async def swap(stopping: asyncio.Event) -> None:
        del stopping  # half an exchange is worse than a second more
        await _with_clickhouse(settings, _swapped)

    _run(look)
    if not options["as_json"]:
        for line in _lines(found):
            click.echo(line)
    if options["swap"]:
        _confirm(options)
        _run(swap)
        found.is_swapped = True
    if options["as_json"]:
        click.echo(msgspec.json.encode(found))


def _confirm(options: _Options) -> None:
    if options["yes"]:
        return
    if options["as_json"] or not sys.stdin.isatty():
        done(lambda: _refuse("nobody can be asked: say --yes to swap, or leave --swap out to only look."))
    click.confirm("put the shadow in the place of tollhouse_raw.usage?", abort=True)


def _refuse(text: str) -> None:
    raise StartRefused(text)


def _run(main: Main) -> None:
    code = run_command(main)
    if code:
        sys.exit(code)


async def _filled(
    settings: Settings, clickhouse: ClickHouse, found: _Report, stopping: asyncio.Event
) -> None:
    store = BlockStore(clickhouse, settings.sink.retry_wait_ms_max)
    async with log_reader(settings.kafka, RATED) as reader:
        within = await reader.range(found.since, found.until)
        found.is_cut = within.is_cut
        await shadow.begin(clickhouse)
        said_at = time.monotonic()
        async for block in reader.records(within):
            if stopping.is_set():
                raise ServiceStopped("stopped with the shadow half filled; usage is as it was.")
            filled = await shadow.fill(store, block)
            found.records += len(block)
            found.rows += filled.rows
            found.unusable += filled.unusable
            if time.monotonic() - said_at >= PROGRESS_S:
                said_at = time.monotonic()
                click.echo(f"read {found.records} of {within.records} records", err=True)
    found.differences = await shadow.differences(clickhouse, found.since, found.until)


async def _swapped(clickhouse: ClickHouse) -> None:
    async for step in shadow.exchange(clickhouse, datetime.now(UTC)):
        click.echo(step, err=True)


async def _with_clickhouse(settings: Settings, work: Callable[[ClickHouse], Awaitable[None]]) -> None:
    url = settings.clickhouse.url
    async with ClickHouse(settings.clickhouse) as clickhouse:
        try:
            await work(clickhouse)
        except StoreError as exc:
            if exc.code in MISSING_CODES:
                raise StartRefused(
                    f"ClickHouse at {url} has no usage: run `tollhouse migrate` first."
                ) from exc
            if exc.code in _NO_EXCHANGE_CODES:
                raise StartRefused(
                    f"ClickHouse at {url} cannot exchange tables: {exc}. Its database tollhouse_raw must "
                    "have the engine Atomic or Replicated; nothing was exchanged."
                ) from exc
            raise StartRefused(f"ClickHouse at {url} did not go on: {exc}.") from exc


def _lines(found: _Report) -> list[str]:
    between = f"{found.since:%Y-%m-%d %H:%M:%S} and {found.until:%Y-%m-%d %H:%M:%S} UTC"
    lines = [
        f"read {found.records} records from between {between}: {found.rows} rows, {found.unusable} unusable"
    ]
    if found.is_cut:
        lines.append("the log no longer holds its oldest records; rows of those may show as only here")
    if not found.differences:
        return [*lines, "usage and its shadow say the same"]
    shown = found.differences[:DIFFERENCES_MAX]
    lines.append(table(HEAD, [*map(_row, shown), _total(shown)]))
    if len(found.differences) > DIFFERENCES_MAX:
        lines.append(f"and more: only the first {DIFFERENCES_MAX} are shown and summed")
    return lines


def _row(each: Difference) -> list[object]:
    return list(msgspec.structs.astuple(each))


def _total(shown: Sequence[Difference]) -> list[object]:
    counts = [sum(getattr(each, name) for each in shown) for name in ("only_here", "only_there", "different")]
    return ["all", "", "", *counts, sum((each.cost_usd for each in shown), Decimal(0))]
