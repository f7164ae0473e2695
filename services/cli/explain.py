"""`tollhouse explain`: prints how one usage came to its cost; reads ClickHouse and changes nothing."""

import asyncio
import os
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from schemas.rated import RatedUsage
from services.cli import settings as settings_file
from services.cli.columns import printable, table
from services.cli.explanation import Explanation, LineShown, explained
from services.cli.outcome import done
from services.cli.settings import Settings
from services.rating.book.event import book_of
from services.rating.book.file import load
from services.rating.book.price_book import PriceBook
from services.rating.errors import BookUnreadable, PriceBookFaults
from services.rating.exact import plain
from services.runtime.clickhouse import ClickHouse, StoreError
from services.runtime.errors import ServiceStopped, StartRefused
from services.sink import reader
from services.sink.facts import Unreadable
from services.sink.reader import Entry, Queries

LINE_HEADS = ("line", "units", "x unit price", "x multiplier", "= USD")
LEDGER_HEADS = ("booked", "entry", "USD", "price book", "status")


class _Stored(NamedTuple):
    """A usage as it is stored, with the book that priced it and what the ledger says of it."""

    rated: RatedUsage
    book: PriceBook | None
    ledger: Sequence[Entry]


@click.command()
@click.argument("request_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def explain(path: Path | None, request_id: str, as_json: bool) -> None:
    """Say why an exchange or batch item cost what it did.

    REQUEST_ID is our own (x-tollhouse-request-id), Anthropic's (request-id, req_...) or the message's
    (msg_...). Shows what was used, each line with the rule and the source of its price, in the words of
    the book that priced it, and what the ledger says since. Exit 1 where nothing is stored under that id.
    """
    asked = _as_stored(request_id)
    stored = done(lambda: asyncio.run(_asked(settings_file.load(path, os.environ, {}), asked)))
    explanation = explained(stored.rated, stored.book, stored.ledger)
    if as_json:
        click.echo(msgspec.json.encode(explanation))
        return
    for line in _lines(explanation, stored.book is not None):
        click.echo(printable(line))


def _as_stored(text: str) -> str:
    """Write an id the one way in which it is stored: a UUID has several, and what is pasted has blanks."""
    bare = text.strip()
    if not bare:
        # Every exchange that never reached Anthropic has the empty id of theirs.
        raise click.BadParameter("must not be empty.", param_hint="REQUEST_ID")
    try:
        return str(uuid.UUID(bare))
    except ValueError:
        return bare


async def _asked(settings: Settings, text: str) -> _Stored:
    async with ClickHouse(settings.clickhouse) as clickhouse:
        try:
            return await _found(settings, clickhouse, text)
        except StoreError as exc:
            raise StartRefused(f"cannot read from ClickHouse at {settings.clickhouse.url}: {exc}.") from exc
        except Unreadable as exc:
            raise StartRefused(f"{exc}.") from exc


async def _found(settings: Settings, clickhouse: Queries, text: str) -> _Stored:
    rows = await reader.found(clickhouse, text)
    if not rows:
        raise ServiceStopped(
            f"no usage is stored under {printable(text)}. It may be on its way from the edge, for some "
            "seconds, or the id is of an exchange that had no known credential."
        )
    if len(rows) > 1:
        ids = ", ".join(row.usage.request_id for row in rows)
        raise ServiceStopped(f"{printable(text)} stands on {len(rows)} usages, ask for one of them: {ids}.")
    rated = rows[0]
    ledger = await reader.ledger_of(clickhouse, rated.usage.request_id)
    return _Stored(rated, await _book(settings, clickhouse, rated), ledger)


async def _book(settings: Settings, clickhouse: Queries, rated: RatedUsage) -> PriceBook | None:
    """Find the book that priced a usage: as it was published, else the configured one if it is the same."""
    kept = await reader.book_of(clickhouse, rated.book_seq, rated.book_hash)
    if kept is not None:
        try:
            return book_of(kept.content)
        except BookUnreadable:
            pass  # the configured one may be the same
    try:
        configured = load(settings.rating.prices, settings.rating.overrides)
    except PriceBookFaults:
        return None
    is_same = configured.content_hash == rated.book_hash or configured.label == rated.price_book
    return configured if is_same and configured.book_seq == rated.book_seq else None


def _lines(told: Explanation, has_book: bool) -> Iterable[str]:
    yield f"usage      {told.request_id}, {told.started_at:%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"
    ids = [each for each in (told.upstream_request_id, told.message_id) if each]
    if ids:
        yield f"upstream   {', '.join(ids)}"
    yield f"key        {told.virtual_key_id}"
    yield f"asked      {told.operation} {told.endpoint}, {told.outcome}, usage {told.usage_status}"
    model = told.model_served or told.model_requested
    if model:
        asked = f" (asked for {told.model_requested})" if told.model_requested not in ("", model) else ""
        yield f"model      {model}{asked}"
    yield f"used       {'; '.join(told.used) or 'nothing'}"
    cost = "unknown" if told.cost_usd is None else f"{told.cost_usd:f} USD"
    yield f"cost       {cost}, {told.cost_status}: {told.why}"
    if told.unpriced_dimensions:
        yield f"unpriced   {', '.join(told.unpriced_dimensions)}"
    yield f"price book {told.price_book}, book_seq {told.book_seq}"
    if told.lines:
        yield ""
        yield from table(LINE_HEADS, [_cells(line) for line in told.lines]).splitlines()
        yield ""
        yield from _sources(told.lines, has_book)
    yield ""
    yield from _ledger(told.ledger)


def _cells(line: LineShown) -> list[object]:
    return [
        f"{line.model} {line.dimension}",
        line.units,
        line.unit_price_usd,
        line.multiplier,
        line.amount_usd,
    ]


def _sources(lines: Sequence[LineShown], has_book: bool) -> Iterable[str]:
    if not has_book:
        yield "the book that priced it is neither stored nor configured: its rules cannot be shown"
        return
    for line in lines:
        modifiers = f"; times {' and '.join(line.modifiers)}" if line.modifiers else ""
        yield f"{line.model} {line.dimension}: {line.rule or 'the book has no such price'}{modifiers}"
        if line.source:
            yield f"    source: {line.source}, checked {line.checked}"


def _ledger(entries: Sequence[Entry]) -> Iterable[str]:
    if not entries:
        yield "the ledger has no entry of it"
        return
    rows = [
        [
            f"{each.booked_at:%Y-%m-%d %H:%M:%S}",
            each.entry,
            "unknown" if each.amount_usd is None else plain(each.amount_usd),
            f"{each.price_book}, book_seq {each.book_seq}",
            each.cost_status,
        ]
        for each in entries
    ]
    yield from table(LEDGER_HEADS, rows).splitlines()
