"""What holds for every usage: the sums are right to the last digit, and nothing in them is a float."""

from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas.rated import RatedUsage
from schemas.usage import TokenCounts
from services.rating.book.file import load
from services.rating.book.rows import COST_DECIMALS
from services.rating.pricing import rate
from tests.unit.rating.cases import BOOK, usage

EXACT = Context(prec=200, traps=[Inexact])
BEGINS = datetime(2025, 6, 1, tzinfo=UTC)

# The list prices, and those of an operator with prices and discounts of his own.
OVERRIDES = Path(__file__).parents[3] / "deploy" / "price-overrides.example.yaml"
books = st.sampled_from([BOOK, load("", str(OVERRIDES))])
models = st.sampled_from([*BOOK.names, "claude-of-tomorrow", ""])
counts = st.one_of(st.just(0), st.integers(0, 300_000), st.integers(0, 10**15))
tokens = st.builds(
    TokenCounts,
    input_tokens=counts,
    output_tokens=counts,
    cache_read_tokens=counts,
    cache_write_5m_tokens=counts,
    cache_write_1h_tokens=counts,
    web_search_requests=st.integers(0, 100),
    web_fetch_requests=st.integers(0, 100),
)
entries = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["message", "compaction", "advisor_message", "fallback_message", "other"]),
        "model": st.none() | models,
        "input_tokens": counts,
        "output_tokens": counts,
        "cache_read_input_tokens": counts,
        "cache_creation_input_tokens": counts,
        "cache_creation": st.none()
        | st.fixed_dictionaries({"ephemeral_5m_input_tokens": counts, "ephemeral_1h_input_tokens": counts}),
    }
)
usages = st.builds(
    usage,
    model=models,
    tokens=tokens,
    usage=st.just({}) | st.fixed_dictionaries({"iterations": st.lists(entries, max_size=5)}),
    operation=st.sampled_from(["messages", "batch_item"]),
    service_tier=st.sampled_from(["", "standard", "priority", "batch", "flex"]),
    inference_geo=st.sampled_from(["", "global", "us", "eu"]),
    speed=st.sampled_from(["", "standard", "fast"]),
    stop_reason=st.sampled_from(["end_turn", "refusal"]),
    started_at=st.integers(0, 730).map(lambda days: BEGINS + timedelta(days=days)),
)


@given(usages, books)
@settings(max_examples=200, deadline=None)
def test_every_line_is_its_product_and_the_cost_their_sum(fact, book):
    rated = rate(fact, book)
    total = Decimal(0)
    for line in rated.cost_lines:
        assert line.units > 0
        product = EXACT.multiply(EXACT.multiply(Decimal(line.units), line.unit_price_usd), line.multiplier)
        assert line.amount_usd == product
        total = EXACT.add(total, product)
    assert rated.cost_usd == total


@given(usages)
@settings(max_examples=200, deadline=None)
def test_no_line_stands_twice_and_status_and_lines_agree(fact):
    rated = rate(fact, BOOK)
    keys = [(line.model, line.dimension, line.unit_price_usd, line.multiplier) for line in rated.cost_lines]
    assert len(set(keys)) == len(keys)
    assert (
        rated.cost_status
        == {
            (True, False): "priced",
            (True, True): "partial",
            (False, True): "unpriced",
            (False, False): "zero",
        }[bool(rated.cost_lines), bool(rated.unpriced_dimensions)]
    )


@given(usages, books)
@settings(max_examples=200, deadline=None)
def test_money_is_decimal_fits_the_cost_columns_and_survives_the_wire(fact, book):
    rated = rate(fact, book)
    amounts = [rated.cost_usd]
    for line in rated.cost_lines:
        assert type(line.units) is int
        amounts += [line.unit_price_usd, line.multiplier, line.amount_usd]
    for amount in amounts:
        assert type(amount) is Decimal
        assert -COST_DECIMALS <= amount.as_tuple().exponent <= 0
    again = codec.decode(RatedUsage, codec.encode(rated))
    assert msgspec.structs.replace(again, usage=rated.usage) == rated


@given(st.sampled_from(sorted(BOOK.models)), tokens, st.integers(1, 1000))
@settings(max_examples=200, deadline=None)
def test_more_of_the_same_costs_as_much_more_within_a_tier(model, counted, factor):
    # below every tier's edge, before and after
    small = {name: getattr(counted, name) % 20 for name in counted.__struct_fields__}
    one = rate(usage(model, tokens=small), BOOK)
    many = rate(usage(model, tokens={name: count * factor for name, count in small.items()}), BOOK)
    assert many.cost_usd == one.cost_usd * factor
    assert [line.units for line in many.cost_lines] == [line.units * factor for line in one.cost_lines]


PRODUCTIVE = entries.map(lambda entry: entry | {"output_tokens": entry["output_tokens"] or 1})


@given(st.lists(PRODUCTIVE, min_size=2, max_size=5), st.randoms(use_true_random=False), models, usages)
@settings(max_examples=100, deadline=None)
def test_the_order_of_attempts_does_not_matter(attempts, random, model, fact):
    """But for attempts without output: whether another followed decides if one was declined."""
    shuffled = list(attempts)
    random.shuffle(shuffled)

    def rated(iterations):
        verbatim = msgspec.Raw(msgspec.json.encode({"iterations": iterations}))
        return rate(msgspec.structs.replace(fact, model_served=model, usage=verbatim), BOOK)

    first, second = rated(attempts), rated(shuffled)
    assert (first.cost_usd, first.cost_status) == (second.cost_usd, second.cost_status)
    assert set(first.cost_lines) == set(second.cost_lines)
    assert set(first.unpriced_dimensions) == set(second.unpriced_dimensions)


@given(usages)
@settings(max_examples=100, deadline=None)
def test_the_same_usage_has_the_same_price_every_time(fact):
    assert codec.encode(rate(fact, BOOK)) == codec.encode(rate(fact, BOOK))
