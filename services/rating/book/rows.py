"""Describes what a price book's file may say, row by row, and what is wrong with a row by itself."""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import NamedTuple

import msgspec

from schemas.exchange import Operation
from services.rating.book.price_book import Rates
from services.rating.exact import EXACT, plain

# Prices are per million tokens or per thousand requests. Their decimals, the million's, one for each of two
# multipliers and those of a discount make the eighteen that the cost columns have: no cost is ever rounded.
PRICE_DECIMALS_MAX = 4
MILLION_DECIMALS = 6
MULTIPLIER_DECIMALS_MAX = 1
MULTIPLIERS_MAX = 2
FACTOR_DECIMALS_MAX = 6
COST_DECIMALS = 18
assert (
    PRICE_DECIMALS_MAX + MILLION_DECIMALS + MULTIPLIERS_MAX * MULTIPLIER_DECIMALS_MAX + FACTOR_DECIMALS_MAX
    == COST_DECIMALS
)
# A book's number on events is its own times EDITIONS_PER_BOOK, plus the edition of the operator's overrides:
# raising either raises it, and both can be read off it. row_version keeps 32 bits for the whole.
EDITIONS_PER_BOOK = 1000
BOOK_SEQ_MAX = 2**32 // EDITIONS_PER_BOOK - 1

_MILLION = Decimal(1_000_000)
_THOUSAND = Decimal(1_000)
_AMOUNT = re.compile(r"\d{1,9}(?:\.(\d+))?", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}", re.ASCII)


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a row comes from and when somebody last compared it with its source."""

    source: str
    checked: date

    def faults(self) -> Iterable[str]:
        """Say whether anybody vouches for the row."""
        if not self.source.strip():
            yield "source: must not be empty"


class Span(Provenance, frozen=True, kw_only=True):
    """From the start of one UTC day to the start of another; without an end, to the next row's start."""

    effective_from: date
    effective_to: date | None = None

    def faults(self) -> Iterable[str]:
        """Say whether the span is one."""
        yield from super().faults()
        if self.effective_to is not None and self.effective_to <= self.effective_from:
            yield "effective_to: must lie behind effective_from"


class TokenPrices(NamedTuple):
    """The five prices of a row as they are written, USD for a million tokens; None is no price at all."""

    input: str
    output: str
    cache_read: str | None
    cache_write_5m: str | None
    cache_write_1h: str | None

    def faults(self) -> Iterable[str]:
        """Say which prices are none; a free token would be a mistake that nobody notices."""
        for dimension, text in zip(self._fields, self, strict=True):
            if text is None:
                continue
            fault = amount_fault(text, PRICE_DECIMALS_MAX)
            if not fault and not Decimal(text):
                fault = "must be above 0"
            if fault:
                yield f"{dimension}: {fault}"

    def rates(self) -> Rates:
        """Give the prices of one token."""
        return Rates(
            _per_token(self.input),
            _per_token(self.output),
            *(None if text is None else _per_token(text) for text in self[2:]),
        )


class TierRow(msgspec.Struct, frozen=True, kw_only=True):
    """The prices of every token of an attempt whose prompt is longer than `prompt_tokens`."""

    prompt_tokens: int
    input: str
    output: str
    cache_read: str | None
    cache_write_5m: str | None
    cache_write_1h: str | None

    def faults(self) -> Iterable[str]:
        """Say what is wrong with the tier."""
        yield from self.prices().faults()
        if self.prompt_tokens < 1:
            yield "prompt_tokens: must be above 0"

    def prices(self) -> TokenPrices:
        """Give the five prices."""
        return TokenPrices(self.input, self.output, self.cache_read, self.cache_write_5m, self.cache_write_1h)


class PriceRow(Span, frozen=True, kw_only=True):
    """What one model costs over a span, and in the tiers above a prompt length.

    A cache price is null where the model has no cache; it is never left out. `above` is [] where longer
    prompts are known to cost no more, and may be left out where there never was a tier.
    """

    input: str
    output: str
    cache_read: str | None
    cache_write_5m: str | None
    cache_write_1h: str | None
    above: tuple[object, ...] | None = None

    def faults(self) -> Iterable[str]:
        """Say what is wrong with the row."""
        yield from super().faults()
        yield from self.prices().faults()

    def prices(self) -> TokenPrices:
        """Give the five prices."""
        return TokenPrices(self.input, self.output, self.cache_read, self.cache_write_5m, self.cache_write_1h)


class RequestRow(Span, frozen=True, kw_only=True):
    """What server tools charge over a span, USD for a thousand requests; "0" is free."""

    web_search: str
    web_fetch: str

    def faults(self) -> Iterable[str]:
        """Say what is wrong with the row."""
        yield from super().faults()
        for tool, text in (("web_search", self.web_search), ("web_fetch", self.web_fetch)):
            fault = amount_fault(text, PRICE_DECIMALS_MAX)
            if fault:
                yield f"{tool}: {fault}"

    def per_request(self) -> tuple[Decimal, Decimal]:
        """Give the prices of one search and one fetch."""
        search, fetch = (EXACT.divide(Decimal(text), _THOUSAND) for text in (self.web_search, self.web_fetch))
        return plain(search), plain(fetch)


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One model: its other names, whether a region may cost more, its prices and those of fast mode."""

    prices: tuple[object, ...]
    fast: tuple[object, ...] = ()
    aliases: tuple[str, ...] = ()
    is_geo_priced: bool = False

    def faults(self) -> Iterable[str]:
        """Say what is missing."""
        if not self.prices:
            yield "prices: must not be empty"


class Modifiers(Provenance, frozen=True, kw_only=True):
    """By what token prices are multiplied; a value that is not listed has no known price."""

    service_tier: dict[str, str]
    inference_geo: dict[str, str]

    def faults(self) -> Iterable[str]:
        """Say which multipliers are none."""
        yield from super().faults()
        yield from multiplier_faults("service_tier", self.service_tier)
        yield from multiplier_faults("inference_geo", self.inference_geo)


class Free(Provenance, frozen=True, kw_only=True):
    """What never costs anything; an endpoint stands for the paths below it too."""

    operations: tuple[Operation, ...]
    endpoints: tuple[str, ...]

    def faults(self) -> Iterable[str]:
        """Say which entries cannot be meant."""
        yield from super().faults()
        for operation in self.operations:
            if operation in ("messages", "batch_item", "other"):
                yield f"operations: {operation} is not free as a whole"
        yield from endpoint_faults(self.endpoints)


class BookFile(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file; `book_seq` rises by one with every edition that is put to use."""

    name: str
    book_seq: int
    modifiers: Modifiers
    free: Free
    requests: tuple[object, ...]
    models: dict[str, object]

    def faults(self) -> Iterable[str]:
        """Say what is wrong with the head of the file."""
        if not _NAME.fullmatch(self.name):
            yield "name: must be made of small letters, digits, dots and hyphens"
        if not 1 <= self.book_seq <= BOOK_SEQ_MAX:
            yield f"book_seq: must lie between 1 and {BOOK_SEQ_MAX}"
        if not self.requests:
            yield "requests: must not be empty"
        if not self.models:
            yield "models: must not be empty"


def multiplier_faults(member: str, values: Mapping[str, str]) -> Iterable[str]:
    """Say which multipliers are none."""
    for name, text in values.items():
        fault = amount_fault(text, MULTIPLIER_DECIMALS_MAX)
        if not fault and not Decimal(text):
            fault = "must be above 0"
        if fault:
            yield f"{member}.{name}: {fault}"


def endpoint_faults(endpoints: Iterable[str]) -> Iterable[str]:
    """Say which entries are no endpoints."""
    for endpoint in endpoints:
        if not endpoint.startswith("/") or endpoint.endswith("/"):
            yield f"endpoints: {endpoint} must begin with a slash and not end with one"


def amount_fault(text: str, decimals_max: int) -> str:
    """Say why a text is no amount; an empty answer is a good one."""
    matched = _AMOUNT.fullmatch(text)
    if matched is None:
        return f"{text!r} is not a plain decimal number"
    if len(matched[1] or "") > decimals_max:
        return f"{text} has more than {decimals_max} decimals; costs keep {COST_DECIMALS} and never round"
    return ""


def _per_token(text: str) -> Decimal:
    return plain(EXACT.divide(Decimal(text), _MILLION))
