"""A second opinion: genai-prices, an independent price library, where it and the price list agree.

It knows no region, no iterations, no change of Sonnet 5.5's cache price and no batch before 2026-10-14,
so those are left out.
"""

from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price

from services.rating.pricing import rate
from tests.unit.rating.cases import BOOK, TODAY, usage

MODELS = [
    "claude-fable-5-2",
    "claude-fable-5-1",
    "claude-fable-5",
    "claude-opus-5-5",
    "claude-opus-5",
    "claude-opus-4-8",
    "claude-opus-4-5-20251101",
    "claude-sonnet-5-5",
    "claude-sonnet-5",
    "claude-sonnet-4-6",
    "claude-haiku-5-5",
    "claude-haiku-4-5-20251001",
    "claude-opus-4-1-20250805",
    "claude-sonnet-4-20250514",
    "claude-3-7-sonnet-20250219",
    "claude-3-5-haiku-20241022",
]
SIZES = [(1000, 200, 3000, 70, 0), (3, 414, 1111, 0, 2056), (90_001, 5, 10_000, 0, 0)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", SIZES)
def test_both_books_come_to_the_same_cost(model, size):
    plain, output, read, write_5m, write_1h = size
    theirs = calc_price(
        Usage(
            # theirs counts the whole prompt as input, and all writes as writes
            input_tokens=plain + read + write_5m + write_1h,
            output_tokens=output,
            cache_read_tokens=read,
            cache_write_tokens=write_5m + write_1h,
            cache_write_1h_tokens=write_1h,
        ),
        model,
        provider_id="anthropic",
        genai_request_timestamp=TODAY,
    )
    counts = {
        "input_tokens": plain,
        "output_tokens": output,
        "cache_read_tokens": read,
        "cache_write_5m_tokens": write_5m,
        "cache_write_1h_tokens": write_1h,
    }
    assert rate(usage(model, tokens=counts), BOOK).cost_usd == Decimal(theirs.total_price)
