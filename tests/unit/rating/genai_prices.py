"""Asks genai-prices, an independent price library, what our grid of usages costs, cell by cell."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from genai_prices import Usage, calc_price

from services.rating.pricing import rate
from tests.unit.rating.cases import BOOK, TODAY, usage

# Where either book changes for every model: theirs dates batch prices by a day of its own.
THEIR_DAYS = (datetime(2026, 3, 13, tzinfo=UTC), datetime(2026, 10, 14, tzinfo=UTC))
LATER = datetime(2026, 12, 24, tzinfo=UTC)
A_MOMENT = timedelta(microseconds=1)
MODES = {
    "standard": {},
    "batch": {"service_tier": "batch"},
    "fast": {"speed": "fast"},
    "fast batch": {"service_tier": "batch", "speed": "fast"},
}
# Both sides of every tier's edge, and far below.
PROMPTS = (1000, 100_000, 100_001, 200_000, 200_001)
PROMPT_DIMENSIONS = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write_5m": "cache_write_5m_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
}
OUTPUT_TOKENS = 700
SEARCHES = 3


class Cell(NamedTuple):
    """One question that both books are asked."""

    model: str
    at: datetime
    mode: str
    prompt: int
    dimension: str


def grid() -> Iterable[Cell]:
    """Give every question: each model from its first day on, on both sides of every change."""
    for model, periods in BOOK.models.items():
        for at in _moments(model):
            for mode in MODES:
                yield Cell(model, at, mode, 0, "web_search")
                for prompt in PROMPTS:
                    for dimension in (*PROMPT_DIMENSIONS, "output"):
                        yield Cell(model, at, mode, prompt, dimension)
        assert periods


def _moments(model: str) -> list[datetime]:
    periods = BOOK.models[model]
    edges = {edge for each in periods for edge in (each.effective_from, each.effective_to) if edge}
    edges.update(THEIR_DAYS)
    moments = {TODAY, LATER, *edges, *(edge - A_MOMENT for edge in edges)}
    return sorted(moment for moment in moments if moment >= periods[0].effective_from)


def ours(cell: Cell) -> Decimal | None:
    """Say what we charge for the cell's dimension; None where we know no price."""
    counts = {"web_search_requests": SEARCHES}
    if cell.dimension != "web_search":
        counts = {PROMPT_DIMENSIONS.get(cell.dimension, "input_tokens"): cell.prompt}
    if cell.dimension == "output":
        counts["output_tokens"] = OUTPUT_TOKENS
    rated = rate(usage(cell.model, started_at=cell.at, tokens=counts, **MODES[cell.mode]), BOOK)
    amounts = [line.amount_usd for line in rated.cost_lines if line.dimension == cell.dimension]
    return sum(amounts, Decimal(0)) if amounts else None


def theirs(cell: Cell) -> Decimal | None:
    """Say what genai-prices charges for it; None where it knows no price."""
    mode = MODES[cell.mode]
    context = {"processing": "batch"} if "service_tier" in mode else {}
    context |= {"speed": "fast"} if "speed" in mode else {}
    try:
        answer = calc_price(
            _their_usage(cell),
            cell.model,
            provider_id="anthropic",
            genai_request_timestamp=cell.at,
            price_context=context or None,
        )
    except LookupError:
        return None
    return answer.output_price if cell.dimension == "output" else answer.total_price


def _their_usage(cell: Cell) -> Usage:
    """Theirs counts the whole prompt as input, and all cache writes as writes."""
    if cell.dimension == "web_search":
        return Usage(input_tokens=0, web_searches=SEARCHES)
    wrote = cell.prompt if cell.dimension.startswith("cache_write") else 0
    return Usage(
        input_tokens=cell.prompt,
        cache_read_tokens=cell.prompt if cell.dimension == "cache_read" else 0,
        cache_write_tokens=wrote,
        cache_write_1h_tokens=wrote if cell.dimension == "cache_write_1h" else 0,
        output_tokens=OUTPUT_TOKENS if cell.dimension == "output" else 0,
    )
