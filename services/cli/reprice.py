"""`tollhouse reprice`: prices stored usage by another book, shows what changes, publishes it when told to.

Live traffic is left alone: a client of its own, no consumer group, a bounded rate.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

import click
import msgspec

from schemas.rated import RatedUsage
from services.cli import settings as settings_file
from services.cli.outcome import done
from services.cli.reprice_report import lines, refusal, report
from services.cli.repricing import Survey, revisions
from services.cli.settings import Settings
from services.rating.book.file import load
from services.rating.book.log import announced_once
from services.rating.book.price_book import PriceBook
from services.rating.errors import BooksUnreachable
from services.runtime.backoff import Backoff
from services.runtime.clickhouse import ClickHouse, StoreError
from services.runtime.errors import ServiceStopped, StartRefused
from services.runtime.publisher import Publisher, PublishFailed
from services.runtime.records import OutgoingRecord
from services.runtime.service import Main, run_command
from services.sink.facts import Unreadable
from services.sink.reader import Selection, stored

DATES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")
# A tenth of what a small broker and one sink take, so that live traffic does not feel it.
ROWS_PER_SECOND = 1_000
RECORDS_PER_PUBLISH_MAX = 500
# A broker that elects a leader is back within these; one that is away is told to the person who waits.
PUBLISH_TRIES_MAX = 4
PROGRESS_S = 2.0


class _Options(TypedDict):
    since: datetime
    until: datetime | None
    model: str
    key: str
    book: Path | None
    overrides: Path | None
    what_if: str
    rows_per_second: int
    dry_run: bool
    yes: bool
    as_json: bool


class _Job(NamedTuple):
    """What was asked for, with the book that it is about."""

    settings: Settings
    book: PriceBook
    selection: Selection
    what_if: str
    rows_per_second: int


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--since",
    required=True,
    type=click.DateTime(DATES),
    metavar="DATE",
    help="First moment of the usage, in UTC.",
)
@click.option(
    "--until",
    type=click.DateTime(DATES),
    metavar="DATE",
    help="The moment behind the last, in UTC.  [default: now]",
)
@click.option("--model", default="", help="Only of these models; * stands for any text, ? for one character.")
@click.option("--key", default="", help="Only of this virtual_key_id.")
@click.option("--book", type=_FILE, help="The price book.  [default: as configured]")
@click.option("--overrides", type=_FILE, help="The overrides laid over it.  [default: as configured]")
@click.option("--what-if", default="", metavar="MODEL", help="As if MODEL had served it; only prints.")
@click.option(
    "--rows-per-second", default=ROWS_PER_SECOND, show_default=True, type=click.IntRange(1, 100_000)
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and publish nothing.")
@click.option("--yes", is_flag=True, help="Publish without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object in place of tables.")
@click.pass_obj
def reprice(path: Path | None, **options: Unpack[_Options]) -> None:
    """Price stored usage anew, by a later price book.

    Shows by model and key what changes, then asks, then publishes a revision of every row that an earlier
    book priced. A row that this book priced already is left out, so that a run can be repeated and one
    that was interrupted can be run again. Prices are those of the day of the usage.
    """
    job = done(lambda: _job(path, options))
    survey = Survey(job.book)
    _run(lambda stopping: _look(job, survey, _Progress("read {} rows"), stopping))
    if not options["as_json"]:
        for line in lines(survey, job.book, job.what_if):
            click.echo(line)
    published = 0
    if not (job.what_if or options["dry_run"]):
        published = _written(job, survey, options)
    if options["as_json"]:
        click.echo(msgspec.json.encode(report(survey, job.book, job.what_if, published)))


def _job(path: Path | None, options: _Options) -> _Job:
    settings = settings_file.load(path, os.environ, {})
    prices = str(options["book"] or settings.rating.prices)
    book = load(prices, str(options["overrides"] or settings.rating.overrides))
    if options["what_if"] and book.canonical(options["what_if"]) is None:
        raise StartRefused(f"{book.label} has no model {options['what_if']}: see `tollhouse prices show`.")
    since = options["since"].replace(tzinfo=UTC)
    until = options["until"].replace(tzinfo=UTC) if options["until"] else datetime.now(UTC)
    if since >= until:
        raise StartRefused("--since must lie before --until.")
    selection = Selection(since=since, until=until, virtual_key_id=options["key"], model=options["model"])
    return _Job(settings, book, selection, options["what_if"], options["rows_per_second"])


def _written(job: _Job, survey: Survey, options: _Options) -> int:
    """Publish what is behind, once a person or --yes says so."""
    behind = survey.total.rows
    refused = refusal(survey, job.book)
    if refused:
        done(lambda: _refuse(refused))
    if not behind:
        click.echo("nothing to do", err=True)
        return 0
    if not options["yes"]:
        if options["as_json"] or not sys.stdin.isatty():
            done(lambda: _refuse("nobody can be asked: say --yes to publish, or --dry-run to only look."))
        click.confirm(f"publish {behind} revisions at book_seq {job.book.book_seq}?", abort=True)
    progress = _Progress(f"published {{}} of {behind}")
    _run(lambda stopping: _publish(job, progress, stopping))
    click.echo(f"published {progress.done} revisions; rows show them when the sink has stored them", err=True)
    if options["book"] or options["overrides"]:
        click.echo("new usage is priced by the book that rating was started with", err=True)
    return progress.done


def _refuse(text: str) -> None:
    raise StartRefused(text)


class _Progress:
    """Counts what is done, and says so from time to time."""

    def __init__(self, words: str) -> None:
        self._words = words
        self._said_at = time.monotonic()
        self.done = 0

    def add(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self._said_at >= PROGRESS_S:
            self._said_at = time.monotonic()
            click.echo(self._words.format(self.done), err=True)


def _run(main: Main) -> None:
    code = run_command(main)
    if code:
        sys.exit(code)


async def _look(job: _Job, survey: Survey, progress: _Progress, stopping: asyncio.Event) -> None:
    try:
        async for block in _blocks(job):
            if stopping.is_set():
                raise ServiceStopped("stopped before anything was published.")
            for row in block:
                if job.what_if:
                    survey.add_as_if(job.what_if, row)
                else:
                    survey.add(row)
            progress.add(len(block))
            await asyncio.sleep(0)
    except StoreError as exc:
        raise StartRefused(f"cannot read from ClickHouse at {job.settings.clickhouse.url}: {exc}.") from exc
    except Unreadable as exc:
        raise StartRefused(f"{exc}.") from exc


async def _publish(job: _Job, progress: _Progress, stopping: asyncio.Event) -> None:
    """Publish block by block; what is published before a failure stays, and is left out the next time."""
    now = datetime.now(UTC)
    publisher = Publisher(job.settings.kafka)
    try:
        announced = await announced_once(job.book, job.settings.kafka, lambda: now)
        booked_at = max(now, announced.event.published_at)
        async for block in _blocks(job):
            await _publish_slowly(publisher, revisions(block, job.book, booked_at), job, progress, stopping)
    except BooksUnreachable as exc:
        raise StartRefused(f"{exc}.") from exc
    except (PublishFailed, StoreError, Unreadable) as exc:
        raise ServiceStopped(
            f"stopped after {progress.done} revisions: {exc}. Run the same again for the rest."
        ) from exc
    finally:
        await publisher.close()


async def _publish_slowly(
    publisher: Publisher,
    records: list[OutgoingRecord],
    job: _Job,
    progress: _Progress,
    stopping: asyncio.Event,
) -> None:
    size = min(RECORDS_PER_PUBLISH_MAX, job.rows_per_second)
    for start in range(0, len(records), size):
        if stopping.is_set():
            raise ServiceStopped(f"stopped after {progress.done} revisions: run the same again for the rest.")
        part = records[start : start + size]
        began = time.monotonic()
        await _acknowledged(publisher, part)
        progress.add(len(part))
        await asyncio.sleep(max(0.0, began + len(part) / job.rows_per_second - time.monotonic()))


async def _acknowledged(publisher: Publisher, records: list[OutgoingRecord]) -> None:
    """Publish, and try again a few times: twice the same revision is one."""
    backoff = Backoff()
    for tries_left in reversed(range(PUBLISH_TRIES_MAX)):
        try:
            refused = await publisher.publish(records)
        except PublishFailed:
            if not tries_left:
                raise
            await backoff.wait()
            continue
        if refused:
            raise PublishFailed(f"Kafka will not take {refused[0].record.topic}: {refused[0].error_class}")
        return


async def _blocks(job: _Job) -> AsyncIterator[list[RatedUsage]]:
    async with ClickHouse(job.settings.clickhouse) as clickhouse:
        async for block in stored(clickhouse, job.selection):
            yield block
