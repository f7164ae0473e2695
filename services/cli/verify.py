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

from services.cli import lateness
from services.cli import settings as settings_file
from services.cli.columns import table
from services.cli.lateness import Verdict, Window
from services.cli.outcome import done
from services.cli.settings import Settings
from services.runtime.clickhouse import MISSING_CODES, ClickHouse, StoreError
from services.runtime.errors import StartRefused
from services.runtime.service import EXIT_FAILED, run_command
from services.runtime.stopping import until_stopped
from services.sink.completeness import COUNTS, SETTLE_S, SETTLE_S_MIN, EdgeAccount, accounts, ranges, unheard

POLL_S = 1.0
EXIT_LATE = 3
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
    """Print for each edge process what became of its exchanges; exit 1 if one is missing, 3 if one is late.

    accepted = stored + dead lettered + shed + pending + late + missing. Pending are those that are open, or
    too young to be judged. What should be here and is not is late where a consumer has records in Kafka still
    to do, or the edge's spool has entries: consumers get up to 15 seconds, or --wait, to do what there is. It
    is missing where nothing of that is so. An edge that is not heard of any more may have it in its spool:
    see `tollhouse spool list` where it ran.
    """
    job = _Job(done(lambda: settings_file.load(path, os.environ, {})), since, settle_s, wait_s)
    verdicts: list[Verdict] = []

    async def look(stopping: asyncio.Event) -> None:
        async with ClickHouse(job.settings.clickhouse) as clickhouse:
            try:
                verdicts.append(await _looked(job, clickhouse, stopping))
            except StoreError as exc:
                raise _refusal(job.settings, exc) from exc

    code = run_command(look)
    if code:
        sys.exit(code)
    (verdict,) = verdicts
    if as_json:
        click.echo(msgspec.json.encode(_report(job, verdict)))
    else:
        for line in _lines(job, verdict):
            click.echo(line)
    late, missing = _sum(verdict.accounts, "late"), _sum(verdict.accounts, "missing")
    sys.exit(EXIT_FAILED if missing else EXIT_LATE if late else 0)


async def _looked(job: _Job, clickhouse: ClickHouse, stopping: asyncio.Event) -> Verdict:
    """Count, and where something is not here find out whether it may still come."""
    began = time.monotonic()
    found = await _settled(job, clickhouse, stopping)
    if not _sum(found, "missing"):
        return Verdict(found)
    left_s = max(0.0, began + job.wait_s - time.monotonic())
    window = Window(job.since, job.settle_s)
    return await lateness.judged(job.settings, clickhouse, window, left_s, stopping)


async def _settled(job: _Job, clickhouse: ClickHouse, stopping: asyncio.Event) -> list[EdgeAccount]:
    """Look, again each second while something is pending, missing or not heard of, and there is time."""
    began = datetime.now(UTC)
    deadline = time.monotonic() + job.wait_s
    said = ""
    while True:
        found = await accounts(clickhouse, job.since, job.settle_s)
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


def _lines(job: _Job, verdict: Verdict) -> list[str]:
    found = verdict.accounts
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
    lines += lateness.advice(verdict)
    late = f"{sums['late']} late, " if sums["late"] else ""
    lines.append(
        f"{sums['missing']} missing, {late}{sums['pending']} pending of {sums['accepted']} exchanges {since}"
    )
    return lines


def _row(each: EdgeAccount) -> list[object]:
    heard = "never" if each.heartbeat_at is None else f"{each.heartbeat_at:%Y-%m-%d %H:%M:%S}"
    return [each.edge_id, heard, *(getattr(each, name) for name in COUNTS)]


def _report(job: _Job, verdict: Verdict) -> dict[str, object]:
    counts: dict[str, object] = {name: _sum(verdict.accounts, name) for name in COUNTS}
    lag, advice = verdict.lag._asdict(), lateness.advice(verdict)
    scope = {"since": job.since, "settle_s": job.settle_s}
    return {**scope, **counts, "edges": verdict.accounts, "lag": lag, "advice": advice}


def _sum(found: Sequence[EdgeAccount], count: str) -> int:
    return sum(getattr(each, count) for each in found)
