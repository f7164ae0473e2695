"""Says in words why a usage cost what it did: each line, its rule and its source; holds no I/O."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal

import msgspec

from schemas.codec import UNREADABLE
from schemas.exchange import NEVER_SENT
from schemas.rated import CostLine, RatedUsage
from schemas.usage import UsageRecorded
from services.rating.attempts import TOKEN_DIMENSIONS, billed
from services.rating.book.price_book import ModelPrices, PriceBook, Tier
from services.rating.exact import EXACT, ONE, plain
from services.rating.pricing import UnpricedReason, judge
from services.sink.reader import Entry

_PER_MILLION = Decimal(1_000_000)
_PER_THOUSAND = Decimal(1_000)
_REASONS: dict[UnpricedReason, str] = {
    "unknown_model": "the book has no such model",
    "no_price_at_date": "the book has no price of that day",
    "unknown_dimension": "the usage names what the book has no price for",
    "unknown_endpoint": "the endpoint is not known to be free",
    "unknown_modifier": "the book does not know the service tier, the speed or the region",
    "no_usage": "no usage was read, but Anthropic may have billed some",
}


class _Verbatim(msgspec.Struct, frozen=True):
    """The part of Anthropic's usage object that tells one attempt from several."""

    iterations: tuple[msgspec.Raw, ...] | None = None


_VERBATIM = msgspec.json.Decoder(_Verbatim | None)


class LineShown(msgspec.Struct, frozen=True, kw_only=True):
    """One cost line with its rule and its source; both are empty where the book is not at hand."""

    model: str
    dimension: str
    units: int
    unit_price_usd: Decimal
    multiplier: Decimal
    amount_usd: Decimal
    rule: str = ""
    modifiers: tuple[str, ...] = ()
    source: str = ""
    checked: date | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decided the cost of one usage."""

    request_id: str
    upstream_request_id: str
    message_id: str
    started_at: datetime
    virtual_key_id: str
    operation: str
    endpoint: str
    outcome: str
    usage_status: str
    model_requested: str
    model_served: str
    used: tuple[str, ...]
    cost_status: str
    cost_usd: Decimal | None
    why: str
    lines: tuple[LineShown, ...]
    unpriced_dimensions: tuple[str, ...]
    price_book: str
    book_seq: int
    book_hash: str
    ledger: tuple[Entry, ...]


def explained(rated: RatedUsage, book: PriceBook | None, ledger: Sequence[Entry]) -> Explanation:
    """Explain a stored usage by the book that priced it, as far as that is known."""
    usage = rated.usage
    return Explanation(
        request_id=usage.request_id,
        upstream_request_id=usage.upstream_request_id,
        message_id=usage.message_id,
        started_at=usage.started_at,
        virtual_key_id=usage.attribution.virtual_key_id,
        operation=usage.operation,
        endpoint=usage.endpoint,
        outcome=usage.outcome,
        usage_status=usage.usage_status,
        model_requested=usage.model_requested,
        model_served=usage.model_served,
        used=tuple(_used(usage)),
        cost_status=rated.cost_status,
        cost_usd=None if rated.cost_status == "unpriced" else plain(rated.cost_usd),
        why=_why(rated, book),
        lines=tuple(_line(line, usage, book) for line in rated.cost_lines),
        unpriced_dimensions=rated.unpriced_dimensions,
        price_book=rated.price_book,
        book_seq=rated.book_seq,
        book_hash=rated.book_hash,
        ledger=tuple(ledger),
    )


def _used(usage: UsageRecorded) -> Iterable[str]:
    """Name what was used and what changes its price."""
    for name in usage.tokens.__struct_fields__:
        count: int = getattr(usage.tokens, name)
        if count:
            estimate = " (our estimate)" if name in usage.estimated_dimensions else ""
            yield f"{count} {name}{estimate}"
    if usage.service_tier:
        yield f"service tier {usage.service_tier}"
    if usage.speed:
        yield f"speed {usage.speed}"
    if usage.inference_geo:
        yield f"region {usage.inference_geo}"
    entries = len(_entries(usage))
    if entries:
        yield f"{entries} attempts, of which {len(billed(usage).attempts)} are billed"


def _entries(usage: UsageRecorded) -> Sequence[msgspec.Raw]:
    try:
        verbatim = _VERBATIM.decode(usage.usage)
    except UNREADABLE:
        return ()
    return (verbatim.iterations if verbatim else None) or ()


def _why(rated: RatedUsage, book: PriceBook | None) -> str:
    if rated.cost_status == "priced":
        return "every dimension that was used has a price"
    if book is None:
        return "the book that priced it is not at hand, so the reason cannot be shown"
    if rated.cost_status == "zero":
        return _why_free(rated.usage, book)
    reason = judge(rated.usage, book).reason
    return "the book prices it by now" if reason is None else _REASONS[reason]


def _why_free(usage: UsageRecorded, book: PriceBook) -> str:
    if usage.outcome in ("refused", "errored", "canceled", "expired"):
        return f"Anthropic bills nothing where the outcome is {usage.outcome}"
    if usage.operation in book.free_operations:
        return f"{usage.operation} is free by the book"
    if usage.operation == "other":
        return f"{usage.endpoint} is free by the book"
    if usage.usage_status == "none":
        return (
            "Anthropic could not be reached: no byte of the request left the gateway"
            if usage.error_type == NEVER_SENT
            else "Anthropic answered with an error and without usage"
        )
    if usage.stop_reason == "refusal":
        return "a refusal before any output is not billed"
    return "nothing was used"


def _line(line: CostLine, usage: UsageRecorded, book: PriceBook | None) -> LineShown:
    shown = LineShown(
        model=line.model,
        dimension=line.dimension,
        units=line.units,
        unit_price_usd=line.unit_price_usd,
        multiplier=line.multiplier,
        amount_usd=plain(line.amount_usd),
    )
    if book is None:
        return shown
    if line.dimension in ("web_search", "web_fetch"):
        return _of_requests(shown, usage, book)
    prices = book.find(line.model, usage.started_at)
    if prices is None:
        return shown
    found = _tier(line, prices, usage)
    if found is None:
        return shown
    mode, tier = found
    prompt = f"prompts above {tier.above_prompt_tokens} tokens" if tier.above_prompt_tokens else "any prompt"
    if len(prices.standard if mode == "standard" else prices.fast) > 1 and not tier.above_prompt_tokens:
        prompt = "prompts below the next tier"
    per_million = plain(EXACT.multiply(line.unit_price_usd, _PER_MILLION))
    return msgspec.structs.replace(
        shown,
        rule=f"{per_million:f} USD per million, {mode} speed, {prompt}, {_period(prices)}",
        modifiers=tuple(_modifiers(prices, usage, book)),
        source=tier.source,
        checked=tier.checked,
    )


def _of_requests(shown: LineShown, usage: UsageRecorded, book: PriceBook) -> LineShown:
    prices = book.find_requests(usage.started_at)
    if prices is None:
        return shown
    per_thousand = plain(EXACT.multiply(shown.unit_price_usd, _PER_THOUSAND))
    since = f"from {prices.effective_from:%Y-%m-%d}"
    return msgspec.structs.replace(
        shown,
        rule=f"{per_thousand:f} USD per thousand requests, never multiplied, {since}",
        source=prices.source,
        checked=prices.checked,
    )


def _tier(line: CostLine, prices: ModelPrices, usage: UsageRecorded) -> tuple[str, Tier] | None:
    """Find the tier that gives this unit price, in the mode that the usage was in first."""
    place = TOKEN_DIMENSIONS.index(line.dimension) if line.dimension in TOKEN_DIMENSIONS else None
    if place is None:
        return None
    modes = [("standard", prices.standard), ("fast", prices.fast)]
    if usage.speed == "fast":
        modes.reverse()
    for mode, tiers in modes:
        for tier in tiers:
            if tier.rates[place] == line.unit_price_usd:
                return mode, tier
    return None


def _period(prices: ModelPrices) -> str:
    until = f" to {prices.effective_to:%Y-%m-%d}" if prices.effective_to else ""
    return f"from {prices.effective_from:%Y-%m-%d}{until}"


def _modifiers(prices: ModelPrices, usage: UsageRecorded, book: PriceBook) -> Iterable[str]:
    """Name each factor that is not 1, in the order in which they are multiplied."""
    tier = "batch" if usage.operation == "batch_item" else usage.service_tier
    factor = book.service_tiers.get(tier, ONE)
    if factor != ONE:
        yield f"{factor:f} service tier {tier}"
    geo = book.inference_geos.get(usage.inference_geo, ONE) if prices.is_geo_priced else ONE
    if geo != ONE:
        yield f"{geo:f} region {usage.inference_geo}"
    if prices.discount != ONE:
        yield f"{prices.discount:f} discount ({prices.discount_source})"
