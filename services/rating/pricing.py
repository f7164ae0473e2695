"""Decides what a usage cost at a price book, exactly; pure, and never a price where none is known."""

from decimal import Decimal
from typing import Literal, NamedTuple

from schemas.exchange import NEVER_SENT, Outcome
from schemas.ids import rated_id
from schemas.rated import CostLine, CostStatus, Dimension, RatedUsage, row_version
from schemas.usage import UsageRecorded
from services.rating.attempts import TOKEN_DIMENSIONS, Attempt, billed
from services.rating.book.price_book import ModelPrices, PriceBook, Rates, Tier
from services.rating.errors import ImplausibleUsage
from services.rating.exact import EXACT, ONE, ZERO, plain

UnpricedReason = Literal[
    "unknown_model",
    "no_price_at_date",
    "unknown_dimension",
    "unknown_endpoint",
    "unknown_modifier",
    "no_usage",
]
"""What was missing, for the counter; of several reasons the first that was met."""

_UNBILLED_ENDINGS: frozenset[Outcome] = frozenset({"refused", "errored", "canceled", "expired"})
# What stands where upstream gave no answer: the gateway's own 502, or nothing.
_NO_ANSWER = frozenset((0, 502))
# Given up by the gateway, whose own status such an ending may have: upstream may have worked on, and bill it.
_GIVEN_UP: frozenset[Outcome] = frozenset({"timed_out", "orphaned"})
_MESSAGE_OPERATIONS = ("messages", "batch_item")


class Verdict(NamedTuple):
    """A rated usage, and why it could not be priced in full, if so."""

    rated: RatedUsage
    reason: UnpricedReason | None


class _Modifiers(NamedTuple):
    """What changes the price of a whole usage; None stands for a value that the book does not know."""

    service_tier: Decimal | None
    inference_geo: Decimal | None
    speed: Literal["standard", "fast"] | None


class _Line(NamedTuple):
    model: str
    dimension: Dimension
    unit_price: Decimal
    multiplier: Decimal


class _Bill:
    """One usage being added up: units by line, what has no price, and the first reason for that."""

    def __init__(self, usage: UsageRecorded, book: PriceBook) -> None:
        self._usage = usage
        self._book = book
        self._modifiers = _modifiers(usage, book)
        self._message_model = book.canonical(usage.model_served or usage.model_requested)
        self.units: dict[_Line, int] = {}
        self.unpriced: dict[str, None] = {}
        self.reason: UnpricedReason | None = None

    def miss(self, dimension: str, reason: UnpricedReason) -> None:
        """Note what could not be priced."""
        self.unpriced[dimension] = None
        self.reason = self.reason or reason

    def add_attempt(self, attempt: Attempt) -> None:
        """Price the tokens of one attempt at its own model and its own prompt's length."""
        if not any(attempt.tokens):
            return
        prices = self._book.find(attempt.model, self._usage.started_at)
        rates = self._rates(prices, attempt)
        service_tier, geo = self._modifiers.service_tier, ONE
        if prices is None or rates is None or service_tier is None:
            return
        if prices.is_geo_priced:
            geo = self._modifiers.inference_geo
        if geo is None:
            # No region costs less than the list price: that much is sure, the surcharge is not.
            self.miss("inference_geo", "unknown_modifier")
            geo = ONE
        multiplier = plain(EXACT.multiply(EXACT.multiply(service_tier, geo), prices.discount))
        for dimension, units, unit_price in zip(TOKEN_DIMENSIONS, attempt.tokens, rates, strict=True):
            if unit_price is not None:
                self._add(_Line(prices.model, dimension, unit_price, multiplier), units)
            elif units:
                self.miss(f"{attempt.model}/{dimension}", "unknown_dimension")

    def add_requests(self) -> None:
        """Price what server tools charge by the request: once, from the top level, without any modifier."""
        usage = self._usage
        counts = usage.tokens
        if not (counts.web_search_requests or counts.web_fetch_requests):
            return
        model = self._message_model or usage.model_served or usage.model_requested
        prices = self._book.find_requests(usage.started_at)
        if prices is None:
            self.miss_requests("no_price_at_date")
            return
        self._add(_Line(model, "web_search", prices.web_search, ONE), counts.web_search_requests)
        self._add(_Line(model, "web_fetch", prices.web_fetch, ONE), counts.web_fetch_requests)

    def miss_requests(self, reason: UnpricedReason) -> None:
        """Note that what server tools charge is not in the bill."""
        if self._usage.tokens.web_search_requests:
            self.miss("web_search", reason)
        if self._usage.tokens.web_fetch_requests:
            self.miss("web_fetch", reason)

    def _add(self, line: _Line, units: int) -> None:
        if units:
            self.units[line] = self.units.get(line, 0) + units

    def _rates(self, prices: ModelPrices | None, attempt: Attempt) -> Rates | None:
        """Choose the rates of an attempt, or note why it has none.

        Fast mode is the message's: an advisor beside it works at its own model's standard speed.
        """
        speed = self._modifiers.speed
        if prices is None:
            is_known = self._book.canonical(attempt.model) is not None
            self._miss_attempt(attempt, "no_price_at_date" if is_known else "unknown_model")
            return None
        if self._modifiers.service_tier is None or speed is None:
            self._miss_attempt(attempt, "unknown_modifier")
            return None
        if speed == "standard" or prices.model != self._message_model:
            return _of_tier(prices.standard, attempt.tokens.prompt)
        if not prices.fast:
            self._miss_attempt(attempt, "no_price_at_date")
            return None
        return _of_tier(prices.fast, attempt.tokens.prompt)

    def _miss_attempt(self, attempt: Attempt, reason: UnpricedReason) -> None:
        for dimension, units in zip(TOKEN_DIMENSIONS, attempt.tokens, strict=True):
            if units:
                self.miss(f"{attempt.model}/{dimension}", reason)


def rate(usage: UsageRecorded, book: PriceBook) -> RatedUsage:
    """Price a usage at the book's prices of the time it started."""
    return judge(usage, book).rated


def judge(usage: UsageRecorded, book: PriceBook) -> Verdict:
    """Price a usage and say what was missing; ImplausibleUsage where the event cannot be true."""
    if usage.started_at.tzinfo is None:
        raise ImplausibleUsage("started_at has no time zone")
    if _is_known_free(usage, book):
        return Verdict(_rated(usage, book, "zero", ()), None)
    if usage.operation not in _MESSAGE_OPERATIONS:
        return Verdict(_rated(usage, book, "unpriced", ()), "unknown_endpoint")
    if usage.usage_status == "none":
        return Verdict(_rated(usage, book, "unpriced", ()), "no_usage")
    return _judge_message(usage, book)


def _is_known_free(usage: UsageRecorded, book: PriceBook) -> bool:
    """Whether nothing can have been charged: not served, failed without usage, or free by the book."""
    if usage.outcome in _UNBILLED_ENDINGS or usage.operation in book.free_operations:
        return True
    if usage.usage_status == "none" and _is_failed_by_upstream(usage):
        return True
    return usage.operation == "other" and _is_free_endpoint(usage.endpoint, book)


def _is_failed_by_upstream(usage: UsageRecorded) -> bool:
    """Whether upstream never had the request, or gave an error for an answer.

    An answer that began with a success and broke off is work that was done, all of it where it is one JSON
    document; a request whose connection broke before any answer may have been worked on to its end. What
    those cost is not known.
    """
    if usage.error_type == NEVER_SENT:
        return True
    if usage.outcome == "upstream_cut":
        return not _is_success(usage.http_status) and usage.http_status not in _NO_ANSWER
    return usage.outcome == "upstream_error" or (usage.http_status >= 400 and usage.outcome not in _GIVEN_UP)


def _is_success(http_status: int) -> bool:
    return 200 <= http_status < 300


def _is_free_endpoint(endpoint: str, book: PriceBook) -> bool:
    """Whether the endpoint, or a path above it, is on the book's list."""
    while endpoint:
        if endpoint in book.free_endpoints:
            return True
        endpoint = endpoint.rpartition("/")[0]
    return False


def _judge_message(usage: UsageRecorded, book: PriceBook) -> Verdict:
    work = billed(usage)
    bill = _Bill(usage, book)
    for attempt in work.attempts:
        bill.add_attempt(attempt)
    if bill.reason is not None and not bill.units:
        # No token has a price: the searches alone would look like a bill.
        bill.miss_requests(bill.reason)
    else:
        bill.add_requests()
    for dimension in work.unknown:
        bill.miss(dimension, "unknown_dimension")
    return _verdict(usage, book, bill)


def _modifiers(usage: UsageRecorded, book: PriceBook) -> _Modifiers:
    """Read tier, region and speed; a batch item is a batch whatever it says, and has no fast mode."""
    tier = "batch" if usage.operation == "batch_item" else usage.service_tier
    speed: Literal["standard", "fast"] | None = None
    if usage.speed in ("", "standard") or tier == "batch":
        speed = "standard"
    elif usage.speed == "fast":
        speed = "fast"
    return _Modifiers(
        book.service_tiers.get(tier) if tier else ONE,
        book.inference_geos.get(usage.inference_geo) if usage.inference_geo else ONE,
        speed,
    )


def _of_tier(tiers: tuple[Tier, ...], prompt_tokens: int) -> Rates:
    chosen = tiers[0]
    for tier in tiers[1:]:
        if prompt_tokens > tier.above_prompt_tokens:
            chosen = tier
    return chosen.rates


def _verdict(usage: UsageRecorded, book: PriceBook, bill: _Bill) -> Verdict:
    lines = tuple(
        CostLine(
            model=line.model,
            dimension=line.dimension,
            units=units,
            unit_price_usd=line.unit_price,
            multiplier=line.multiplier,
            amount_usd=plain(EXACT.multiply(EXACT.multiply(line.unit_price, units), line.multiplier)),
        )
        for line, units in bill.units.items()
    )
    status: CostStatus = "priced" if lines else "zero"
    if bill.unpriced:
        status = "partial" if lines else "unpriced"
    return Verdict(_rated(usage, book, status, lines, tuple(bill.unpriced)), bill.reason)


def _rated(
    usage: UsageRecorded,
    book: PriceBook,
    status: CostStatus,
    lines: tuple[CostLine, ...],
    unpriced: tuple[str, ...] = (),
) -> RatedUsage:
    total = ZERO
    for line in lines:
        total = EXACT.add(total, line.amount_usd)
    return RatedUsage(
        rated_id=rated_id(usage.request_id, book.book_seq),
        usage=usage,
        cost_status=status,
        cost_usd=plain(total),
        cost_lines=lines,
        price_book=book.label,
        book_seq=book.book_seq,
        row_version=row_version(usage, book.book_seq),
        unpriced_dimensions=unpriced,
        book_hash=book.content_hash,
    )
