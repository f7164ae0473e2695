"""The price table, written out a second time: a slip in prices.yaml shows up as a difference."""

from decimal import Decimal

import pytest

from services.rating.book.rows import COST_DECIMALS, FACTOR_DECIMALS_MAX
from services.rating.pricing import rate
from tests.unit.rating.cases import BOOK, TODAY, day, usage

# USD per million tokens: input, output, cache read, 5-minute write, 1-hour write.
TABLE = [
    ("claude-fable-5-2", "8", "40", "0.20", "10", "16"),
    ("claude-mythos-5-2", "8", "40", "0.20", "10", "16"),
    ("claude-fable-5-1", "10", "50", "0.25", "12.5", "20"),
    ("claude-mythos-5-1", "10", "50", "0.25", "12.5", "20"),
    ("claude-fable-5", "10", "50", "1", "12.5", "20"),
    ("claude-mythos-5", "10", "50", "1", "12.5", "20"),
    ("claude-opus-5-5", "4", "20", "0.20", "5", "8"),
    ("claude-opus-5", "5", "25", "0.50", "6.25", "10"),
    ("claude-opus-4-8", "5", "25", "0.50", "6.25", "10"),
    ("claude-opus-4-7", "5", "25", "0.50", "6.25", "10"),
    ("claude-opus-4-6", "5", "25", "0.50", "6.25", "10"),
    ("claude-opus-4-5", "5", "25", "0.50", "6.25", "10"),
    ("claude-sonnet-5-5", "2", "10", "0.10", "2.5", "4"),
    ("claude-sonnet-5", "2", "10", "0.20", "2.5", "4"),
    ("claude-sonnet-4-6", "3", "15", "0.30", "3.75", "6"),
    ("claude-sonnet-4-5", "3", "15", "0.30", "3.75", "6"),
    ("claude-haiku-5-5", "0.10", "0.50", "0.01", "0.125", "0.20"),
    ("claude-haiku-4-5", "1", "5", "0.10", "1.25", "2"),
    ("claude-opus-4-1", "15", "75", "1.50", "18.75", "30"),
    ("claude-opus-4", "15", "75", "1.50", "18.75", "30"),
    ("claude-sonnet-4", "3", "15", "0.30", "3.75", "6"),
    ("claude-3-7-sonnet", "3", "15", "0.30", "3.75", "6"),
    ("claude-3-5-sonnet", "3", "15", "0.30", "3.75", "6"),
    ("claude-3-5-haiku", "0.80", "4", "0.08", "1", "1.60"),
    ("claude-3-opus", "15", "75", "1.50", "18.75", "30"),
    ("claude-3-sonnet", "3", "15", "0.30", "3.75", "6"),
    ("claude-3-haiku", "0.25", "1.25", "0.03", "0.30", "0.50"),
]
WITHOUT_CACHE = [("claude-2", "8", "24"), ("claude-v1", "8", "24")]
# The same, where the prompt is long or was so before a price changed.
LONG_PROMPTS = [
    ("claude-haiku-5-5", "2026-11-22", 100_000, ("0.50", "2.50", "0.05", "0.625", "1")),
    ("claude-opus-4-6", "2026-03-12", 200_000, ("10", "37.5", "1", "12.5", "20")),
    ("claude-sonnet-4-6", "2026-03-12", 200_000, ("6", "22.5", "0.60", "7.5", "12")),
    ("claude-sonnet-4-5", "2026-04-29", 200_000, ("6", "22.5", "0.60", "7.5", "12")),
]
FAST = [
    ("claude-fable-5-2", "16", "80", "0.40", "20", "32"),
    ("claude-mythos-5-2", "16", "80", "0.40", "20", "32"),
    ("claude-opus-5-5", "8", "40", "0.40", "10", "16"),
    ("claude-opus-5", "10", "50", "1", "12.5", "20"),
    ("claude-opus-4-8", "10", "50", "1", "12.5", "20"),
]
COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
)
NO_LONGER_DEARER = [
    ("claude-opus-4-6", "2026-03-13", "5"),
    ("claude-sonnet-4-6", "2026-03-13", "3"),
    ("claude-sonnet-4-5", "2026-04-30", "3"),
]
UNITS = 20_000  # five of them stay in the first prompt tier


def amounts(rated):
    assert rated.cost_status == "priced"
    return tuple(line.amount_usd for line in rated.cost_lines)


def of(units, prices):
    return tuple(Decimal(price) * units / 1_000_000 for price in prices)


def test_the_table_names_every_model_of_the_book():
    assert {model for model, *_ in (*TABLE, *WITHOUT_CACHE)} == set(BOOK.models)
    assert {model for model, *_ in FAST} == {
        name for name, rows in BOOK.models.items() if rows[0].fast or rows[-1].fast
    }


@pytest.mark.parametrize(("model", "prices"), [(model, prices) for model, *prices in TABLE])
def test_a_model_costs_what_the_table_says(model, prices):
    rated = rate(usage(model, tokens=dict.fromkeys(COUNTS, UNITS)), BOOK)
    assert amounts(rated) == of(UNITS, prices)


@pytest.mark.parametrize(("model", "price_in", "price_out"), WITHOUT_CACHE)
def test_a_model_without_a_cache_leaves_cached_tokens_unpriced(model, price_in, price_out):
    rated = rate(usage(model, tokens=dict.fromkeys(COUNTS, UNITS)), BOOK)
    assert [line.amount_usd for line in rated.cost_lines] == list(of(UNITS, (price_in, price_out)))
    assert rated.cost_status == "partial"
    assert rated.unpriced_dimensions == tuple(
        f"{model}/{dimension}" for dimension in ("cache_read", "cache_write_5m", "cache_write_1h")
    )


@pytest.mark.parametrize(("model", "prices"), [(model, prices) for model, *prices in FAST])
def test_fast_mode_costs_what_the_table_says(model, prices):
    rated = rate(usage(model, speed="fast", tokens=dict.fromkeys(COUNTS, UNITS)), BOOK)
    assert amounts(rated) == of(UNITS, prices)


@pytest.mark.parametrize(("model", "at", "edge", "prices"), LONG_PROMPTS)
def test_a_long_prompt_prices_every_token_higher(model, at, edge, prices):
    counts = dict.fromkeys(COUNTS, edge // 4 + 1)
    rated = rate(usage(model, started_at=day(at), tokens=counts), BOOK)
    assert amounts(rated) == of(edge // 4 + 1, prices)


@pytest.mark.parametrize(("model", "at", "price"), NO_LONGER_DEARER)
def test_a_long_prompt_costs_no_more_once_its_surcharge_ended(model, at, price):
    rated = rate(usage(model, started_at=day(at), tokens={"input_tokens": 1_000_000}), BOOK)
    assert amounts(rated) == (Decimal(price),)


def test_no_cost_needs_more_decimals_than_the_cost_columns_have():
    multipliers = [tier * geo for tier in BOOK.service_tiers.values() for geo in BOOK.inference_geos.values()]
    unit_prices = {
        price
        for rows in BOOK.models.values()
        for row in rows
        for tier in (*row.standard, *row.fast)
        for price in tier.rates
        if price is not None
    }
    places = {
        -(price * multiplier).as_tuple().exponent for price in unit_prices for multiplier in multipliers
    }
    assert max(places) <= COST_DECIMALS - FACTOR_DECIMALS_MAX


ALIASES = [
    ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
    ("claude-opus-4-5-20251101", "claude-opus-4-5"),
    ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
    ("claude-sonnet-4-20250514", "claude-sonnet-4"),
    ("claude-opus-4-20250514", "claude-opus-4"),
    ("claude-opus-4-1-20250805", "claude-opus-4-1"),
    ("claude-3-opus-20240229", "claude-3-opus"),
    ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet"),
    ("claude-3-5-haiku-latest", "claude-3-5-haiku"),
    ("claude-3-7-sonnet-20250219", "claude-3-7-sonnet"),
    ("claude-3-haiku-20240307", "claude-3-haiku"),
    ("claude-opus-5-5-20260922", "claude-opus-5-5"),
    ("claude-sonnet-5@20260630", "claude-sonnet-5"),
    ("claude-sonnet-5-5[1m]", "claude-sonnet-5-5"),
    ("claude-sonnet-4-5-20250929[1m]", "claude-sonnet-4-5"),
]


@pytest.mark.parametrize(("model_id", "name"), ALIASES)
def test_every_id_of_a_model_finds_it(model_id, name):
    assert BOOK.canonical(model_id) == name
    assert BOOK.find(model_id, TODAY) == BOOK.find(name, TODAY)


@pytest.mark.parametrize(
    "model_id",
    ["claude-opus-6-20261201", "claude-sonnet-6", "claude-opus", "claude", "", "claude-opus-5-5-5", "gpt-5"],
)
def test_no_neighbour_lends_its_price(model_id):
    assert BOOK.canonical(model_id) is None
    assert BOOK.find(model_id, TODAY) is None
