"""`tollhouse verify`: whether every exchange is accounted for, and which is not; only reads."""

import asyncio
import os
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from services.cli import settings as settings_file
from services.cli.columns import table
from services.cli.outcome import done
from services.cli.settings import Settings
from services.runtime.clickhouse import MISSING_CODES, ClickHouse, StoreError
from services.runtime.errors import StartRefused
from services.runtime.service import EXIT_FAILED, run_command
from services.runtime.stopping import until_stopped
from services.sink.completeness import COUNTS, SETTLE_S, SETTLE_S_MIN, EdgeAccount, accounts, ranges, unheard

POLL_S = 1.0
HEAD = ("edge", "last heard", *(name.replace("_", " ") for name in COUNTS))
DATES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")
_SPAN = re.compile(r"(\d{1,6})(s|m|h|d)", re.ASCII)
# UNKNOWN_FUNCTION: a view with parameters that does not exist is taken for one.
_NO_VIEW_CODES = MISSING_CODES | {46}
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Since(click.ParamType[datetime]):
    """A moment: so long ago, as 90m, 24h, 7d, or a date in UTC."""

    name = "since"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Read it; an exit with a sentence where it is neither."""
        if isinstance(value, datetime):
            return value
        matched = _SPAN.fullmatch(value)
        if matched is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[matched[2]]: int(matched[1])})
        return click.DateTime(DATES).convert(value, param, ctx).replace(tzinfo=UTC)


class _Job(NamedTuple):
    settings: Settings
    since: datetime
    settle_s: int
    wait_s: float


@click.command()
@click.option(
    "--since",
    type=Since(),
    default="24h",
    show_default=True,
    metavar="SPAN|DATE",
    help="Exchanges since then: so long ago, as 90m, 24h or 7d, or a date in UTC.",
)
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0), default=0, help="Wait so long for what is pending."
)
@click.option(
    "--settle",
    "settle_s",
    type=click.IntRange(SETTLE_S_MIN),
    default=SETTLE_S,
    show_default=True,
    help="How long, in seconds, a record may take from an edge to ClickHouse.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object in place of a table.")
@click.pass_obj
def verify(path: Path | None, since: datetime, wait_s: float, settle_s: int, as_json: bool) -> None:
    """Print for each edge process what became of its exchanges; exit 1 if one is missing.

    accepted = stored + dead lettered + shed + pending + missing. Pending are those that are open, or too
    young to be judged; missing are those that should be here and are not. An edge that is not heard of any
    more may have them in its spool: see `tollhouse spool list` where it ran.
    """
    job = _Job(done(lambda: settings_file.load(path, os.environ, {})), since, settle_s, wait_s)
    found: list[EdgeAccount] = []

    async def look(stopping: asyncio.Event) -> None:
        found.extend(await _settled(job, stopping))

    code = run_command(look)
    if code:
        sys.exit(code)
    missing = sum(each.missing for each in found)
    if as_json:
        click.echo(msgspec.json.encode(_report(job, found)))
    else:
        for line in _lines(job, found):
            click.echo(line)
    sys.exit(EXIT_FAILED if missing else 0)


async def _settled(job: _Job, stopping: asyncio.Event) -> list[EdgeAccount]:
    """Look, again each second while something is pending, missing or not heard of, and there is time."""
    began = datetime.now(UTC)
    deadline = time.monotonic() + job.wait_s
    said = ""
    async with ClickHouse(job.settings.clickhouse) as clickhouse:
        while True:
            try:
                found = await accounts(clickhouse, job.since, job.settle_s)
            except StoreError as exc:
                raise _refusal(job.settings, exc) from exc
            pending, missing = _sum(found, "pending"), _sum(found, "missing")
            left_s = deadline - time.monotonic()
            is_settled = not (pending or missing or unheard(found, began, datetime.now(UTC)))
            if is_settled or left_s <= 0 or stopping.is_set():
                return found
            saying = f"waiting: {pending} pending, {missing} missing of {_sum(found, 'accepted')}"
            if saying != said:
                click.echo(saying, err=True)
                said = saying
            await until_stopped(asyncio.sleep(min(POLL_S, left_s)), stopping, 0.0)


def _refusal(settings: Settings, error: StoreError) -> StartRefused:
    url = settings.clickhouse.url
    if error.code in _NO_VIEW_CODES:
        return StartRefused(f"ClickHouse at {url} has no completeness: run `tollhouse migrate` first.")
    return StartRefused(f"cannot read from ClickHouse at {url}: {error}.")


def _lines(job: _Job, found: Sequence[EdgeAccount]) -> list[str]:
    since = f"since {job.since:%Y-%m-%d %H:%M:%S} UTC"
    if not found:
        return [f"no edge was heard of {since}"]
    sums = {name: _sum(found, name) for name in COUNTS}
    lines = [table(HEAD, [*map(_row, found), *([("all", "", *sums.values())] if len(found) > 1 else [])])]
    for each in found:
        if each.missing:
            silent = ", which is silent" if each.is_silent else ""
            shed = f", of which {each.shed} may be those that were shed" if each.shed else ""
            lines.append(f"edge {each.edge_id}{silent}: no record of {ranges(each.missing_seqs)}{shed}")
    lines.append(
        f"{sums['missing']} missing, {sums['pending']} pending of {sums['accepted']} exchanges {since}"
    )
    return lines


def _row(each: EdgeAccount) -> list[object]:
    heard = "never" if each.heartbeat_at is None else f"{each.heartbeat_at:%Y-%m-%d %H:%M:%S}"
    return [each.edge_id, heard, *(getattr(each, name) for name in COUNTS)]


def _report(job: _Job, found: Sequence[EdgeAccount]) -> dict[str, object]:
    counts: dict[str, object] = {name: _sum(found, name) for name in COUNTS}
    return {"since": job.since, "settle_s": job.settle_s, **counts, "edges": found}


def _sum(found: Sequence[EdgeAccount], count: str) -> int:
    return sum(getattr(each, count) for each in found)
