"""`tollhouse prices`: shows what the price book says, and whether it can be used; changes nothing."""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple

import click
import msgspec

from services.cli import settings as settings_file
from services.cli.columns import table
from services.cli.outcome import done
from services.rating.attempts import TOKEN_DIMENSIONS
from services.rating.book.file import Reading, load, read
from services.rating.book.price_book import ModelPrices, PriceBook, Tier
from services.rating.errors import PriceBookFaults
from services.rating.exact import EXACT, ONE, plain
from services.runtime.service import EXIT_FAILED, EXIT_REFUSED

Mode = Literal["standard", "fast"]
_MODES: tuple[Mode, ...] = ("standard", "fast")
_PER_MTOK = Decimal(1_000_000)
_PER_1000 = Decimal(1000)
_NOTHING = "-"


class PriceShown(msgspec.Struct, frozen=True, kw_only=True):
    """One price as it is shown: USD for a million tokens, or for a thousand requests to a server tool."""

    model: str
    mode: Mode
    dimension: str
    price_usd: Decimal | None
    above_prompt_tokens: int
    discount: Decimal
    effective_from: date
    effective_to: date | None
    source: str
    checked: date


class _Span(NamedTuple):
    """A time in which one mode of one model has the same prices."""

    model: str
    mode: Mode
    start: datetime
    end: datetime | None
    tiers: tuple[Tier, ...]
    discount: Decimal
    discount_source: str

    def holds(self, at: datetime) -> bool:
        return self.start <= at and (self.end is None or at < self.end)

    def goes_on_in(self, other: "_Span") -> bool:
        """Whether the other begins where this one ends, and says the same."""
        return self == other._replace(start=self.start, end=self.end) and self.end == other.start


@click.group()
def prices() -> None:
    """Show and check the price book."""


@prices.command()
@click.argument("model", required=False)
@click.option(
    "--at",
    type=click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S")),
    help="Show the prices of that time, in UTC.  [default: now; with MODEL every price it ever had]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a price, one a line.")
@click.pass_obj
def show(path: Path | None, model: str | None, at: datetime | None, as_json: bool) -> None:
    """Print the prices of MODEL, or of all models.

    The book is the one that rating would use: rating.prices, else the built-in one, with rating.overrides
    laid over it. Prices are USD per million tokens, per thousand requests for server tools.
    """
    book = done(lambda: _loaded(path))
    moment = at.replace(tzinfo=UTC) if at is not None else None
    now = moment or datetime.now(UTC)
    shown = _all_at(book, now) if model is None else _of_model(book, model, moment)
    if as_json:
        for each in shown:
            click.echo(msgspec.json.encode(each))
        return
    heads, rows = _wide(shown) if model is None else _long(shown)
    click.echo(table(heads, rows))
    click.echo()
    for line in _footer(book, now):
        click.echo(line)


@prices.command()
@click.pass_obj
def check(path: Path | None) -> None:
    """Check the price book and the overrides as configured.

    Names at once every fault (overlaps, unknown members, prices without a source, a book that changed
    under its old number) and every oversight (gaps, missing tiers). Exit 0 if there is none, else 1.
    """
    loaded = done(lambda: settings_file.load(path, os.environ, {}))
    try:
        reading = read(loaded.rating.prices, loaded.rating.overrides)
    except PriceBookFaults as exc:
        click.echo(str(exc))
        sys.exit(EXIT_FAILED)
    for line in _summary(reading):
        click.echo(line)
    if reading.findings:
        sys.exit(EXIT_FAILED)


def _loaded(path: Path | None) -> PriceBook:
    loaded = settings_file.load(path, os.environ, {})
    return load(loaded.rating.prices, loaded.rating.overrides)


def _summary(reading: Reading) -> Iterable[str]:
    book = reading.book
    yield f"{book.label}, book_seq {book.book_seq}: {len(book.models)} models under {len(book.names)} names"
    yield f"book_hash {book.content_hash}"
    if not reading.findings:
        yield "the price book has no faults"
        return
    yield "the price book can be used, but has oversights:"
    yield from (f"  - {each}" for each in reading.findings)


def _all_at(book: PriceBook, at: datetime) -> list[PriceShown]:
    spans = [span for periods in book.models.values() for span in _spans(periods) if span.holds(at)]
    return [*(price for span in spans for price in _of_span(span)), *_of_requests(book, at)]


def _of_model(book: PriceBook, model: str, at: datetime | None) -> list[PriceShown]:
    name = book.canonical(model)
    if name is None:
        click.echo(f"tollhouse: no price is known for {model}", err=True)
        sys.exit(EXIT_REFUSED)
    spans = [span for span in _spans(book.models[name]) if at is None or span.holds(at)]
    if not spans:
        click.echo(f"tollhouse: {name} has no price at {at:%Y-%m-%d}", err=True)
        sys.exit(EXIT_REFUSED)
    return [price for span in spans for price in _of_span(span)]


def _spans(periods: Sequence[ModelPrices]) -> list[_Span]:
    """Join what the book cuts: standard prices go on where only those of fast mode change."""
    spans: list[_Span] = []
    for mode in _MODES:
        for period in periods:
            tiers = period.standard if mode == "standard" else period.fast
            said = _Span(
                period.model,
                mode,
                period.effective_from,
                period.effective_to,
                tiers,
                period.discount,
                period.discount_source,
            )
            if spans and spans[-1].goes_on_in(said):
                spans[-1] = spans[-1]._replace(end=said.end)
            elif tiers:
                spans.append(said)
    return spans


def _of_span(span: _Span) -> Iterable[PriceShown]:
    for tier in span.tiers:
        for dimension, rate in zip(TOKEN_DIMENSIONS, tier.rates, strict=True):
            yield PriceShown(
                model=span.model,
                mode=span.mode,
                dimension=dimension,
                price_usd=None if rate is None else plain(EXACT.multiply(rate, _PER_MTOK)),
                above_prompt_tokens=tier.above_prompt_tokens,
                discount=span.discount,
                effective_from=span.start.date(),
                effective_to=span.end.date() if span.end else None,
                source=tier.source + (f"; discount: {span.discount_source}" if span.discount_source else ""),
                checked=tier.checked,
            )


def _of_requests(book: PriceBook, at: datetime) -> Iterable[PriceShown]:
    found = book.find_requests(at)
    if found is None:
        return
    for dimension, price in (("web_search", found.web_search), ("web_fetch", found.web_fetch)):
        yield PriceShown(
            model="",
            mode="standard",
            dimension=dimension,
            price_usd=plain(EXACT.multiply(price, _PER_1000)),
            above_prompt_tokens=0,
            discount=ONE,
            effective_from=found.effective_from.date(),
            effective_to=found.effective_to.date() if found.effective_to else None,
            source=found.source,
            checked=found.checked,
        )


def _long(shown: Sequence[PriceShown]) -> tuple[list[str], list[list[object]]]:
    """One row a price."""
    heads = ["model", "mode", "dimension", "price", "discount", "prompt", "from", "to", "checked", "source"]
    rows: list[list[object]] = [
        [
            each.model,
            each.mode,
            each.dimension,
            _amount(each.price_usd),
            *_context(each),
            each.checked.isoformat(),
            each.source,
        ]
        for each in shown
    ]
    return heads, rows


def _wide(shown: Sequence[PriceShown]) -> tuple[list[str], list[list[object]]]:
    """One row a model, mode and tier, with the prices beside one another."""
    together: dict[tuple[str, Mode, int], dict[str, PriceShown]] = {}
    for each in shown:
        if each.model:
            key = (each.model, each.mode, each.above_prompt_tokens)
            together.setdefault(key, {})[each.dimension] = each
    heads = ["model", "mode", *TOKEN_DIMENSIONS, "discount", "prompt", "from", "to", "source"]
    rows: list[list[object]] = []
    for (model, mode, _), by_dimension in together.items():
        amounts = [_amount(by_dimension[dimension].price_usd) for dimension in TOKEN_DIMENSIONS]
        first = by_dimension[TOKEN_DIMENSIONS[0]]
        rows.append([model, mode, *amounts, *_context(first), first.source])
    return heads, rows


def _context(shown: PriceShown) -> list[str]:
    """What surrounds a price: its discount, the prompts it is for, its first day and the day it ended."""
    return [
        _NOTHING if shown.discount == ONE else f"x {shown.discount:f}",
        f"> {shown.above_prompt_tokens}" if shown.above_prompt_tokens else "any",
        shown.effective_from.isoformat(),
        shown.effective_to.isoformat() if shown.effective_to else _NOTHING,
    ]


def _amount(price: Decimal | None) -> Decimal | str:
    return _NOTHING if price is None else price


def _footer(book: PriceBook, at: datetime) -> Iterable[str]:
    """Say what multiplies token prices, and what server tools cost."""
    geos = [name for name, periods in book.models.items() if any(each.is_geo_priced for each in periods)]
    tiers = ", ".join(f"{name} {value:f}" for name, value in sorted(book.service_tiers.items()))
    regions = ", ".join(f"{name} {value:f}" for name, value in sorted(book.inference_geos.items()))
    yield "USD per million tokens; web searches and fetches per thousand, never multiplied"
    yield f"times service tier: {tiers}"
    yield f"times region: {regions}; of {len(geos)} models: {', '.join(sorted(geos))}"
    for each in _of_requests(book, at):
        yield f"{each.dimension}: {each.price_usd:f}"
    yield f"{book.label}, book_seq {book.book_seq}"
