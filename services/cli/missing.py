"""`tollhouse prices missing`: what was used and has no price, so that it can be given one; only reads."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec

from services.cli import settings as settings_file
from services.cli.columns import table
from services.cli.outcome import done
from services.cli.settings import Settings
from services.runtime.clickhouse import ClickHouse, StoreError
from services.runtime.errors import StartRefused
from services.sink import reader
from services.sink.reader import MISSING_ROWS_MAX, UNREAD, Missing

DAYS = 30
HEADS = ("model", "dimension", "exchanges", "first seen", "last seen", "keys")
UNREAD_HEADS = (HEADS[0], *HEADS[2:])


@click.command()
@click.option(
    "--since",
    type=click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S")),
    metavar="DATE",
    help=f"First moment of the usage, in UTC.  [default: {DAYS} days ago]",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a model and dimension, one a line."
)
@click.pass_obj
def missing(path: Path | None, since: datetime | None, as_json: bool) -> None:
    """Print the models and dimensions that were used and have no price, the most used first.

    Apart from them: exchanges of which no usage was read, so that no price could help (with --json their
    dimension is "no usage was read").

    Exit 0 whether there are any or not. Give them a price in the book or the overrides, then
    `tollhouse reprice` prices the past.
    """
    now = datetime.now(UTC)
    begin = since.replace(tzinfo=UTC) if since is not None else now - timedelta(days=DAYS)
    found = done(lambda: asyncio.run(_asked(settings_file.load(path, os.environ, {}), begin, now)))
    if as_json:
        for each in found:
            click.echo(msgspec.json.encode(each))
        return
    if not found:
        click.echo(f"everything that was used since {begin:%Y-%m-%d %H:%M} UTC has a price")
        return
    unpriced = [each for each in found if each.dimension != UNREAD]
    unread = [each for each in found if each.dimension == UNREAD]
    if unpriced:
        click.echo(table(HEADS, [_cells(each) for each in unpriced]))
    if unpriced and unread:
        click.echo("")
    if unread:
        click.echo("no price could help: no usage was read of these exchanges; usage_status says why")
        click.echo(table(UNREAD_HEADS, [_without_dimension(_cells(each)) for each in unread]))
    if len(found) == MISSING_ROWS_MAX:
        click.echo(f"and maybe more: only the first {MISSING_ROWS_MAX} are shown")


async def _asked(settings: Settings, since: datetime, until: datetime) -> list[Missing]:
    async with ClickHouse(settings.clickhouse) as clickhouse:
        try:
            return await reader.missing(clickhouse, since, until)
        except StoreError as exc:
            raise StartRefused(f"cannot read from ClickHouse at {settings.clickhouse.url}: {exc}.") from exc


def _without_dimension(cells: list[object]) -> list[object]:
    return [cells[0], *cells[2:]]


def _cells(each: Missing) -> list[object]:
    more = each.keys - len(each.examples)
    keys = ", ".join(each.examples) + (f" and {more} more" if more else "")
    return [
        each.model or "-",
        each.dimension,
        each.exchanges,
        f"{each.first_seen:%Y-%m-%d %H:%M}",
        f"{each.last_seen:%Y-%m-%d %H:%M}",
        keys,
    ]
