"""What usages cost, to the last digit: cases worked out by hand, each with its arithmetic beside it."""

from decimal import Decimal
from typing import get_args

import pytest

from schemas.rated import Dimension
from services.rating.exact import EXACT
from services.rating.pricing import rate
from tests.golden.arithmetic import worked_out
from tests.golden.cases import all_cases, fact_of
from tests.unit.rating.cases import BOOK

CASES = all_cases()
CASES_MIN = 150


@pytest.mark.parametrize("name", CASES)
def test_a_cost_is_what_was_worked_out(name):
    case = CASES[name]
    rated = rate(fact_of(case), BOOK)
    assert (rated.cost_status, rated.cost_usd, rated.unpriced_dimensions) == (
        case.status,
        case.usd,
        case.unpriced,
    ), case.why
    total = Decimal(0)
    for line in rated.cost_lines:
        product = EXACT.multiply(EXACT.multiply(line.unit_price_usd, line.units), line.multiplier)
        assert line.amount_usd == product
        total = EXACT.add(total, product)
    assert total == case.usd


@pytest.mark.parametrize("name", CASES)
def test_the_arithmetic_beside_a_cost_comes_to_it(name):
    case = CASES[name]
    assert worked_out(case.sum) == case.usd


def test_the_cases_reach_every_model_every_dimension_and_every_status():
    rated = [rate(fact_of(case), BOOK) for case in CASES.values()]
    lines = [line for each in rated for line in each.cost_lines]
    assert {line.model for line in lines} == set(BOOK.models)
    assert {line.dimension for line in lines} == set(get_args(Dimension))
    assert {each.cost_status for each in rated} == {"priced", "partial", "unpriced", "zero"}
    assert len(CASES) >= CASES_MIN


def test_the_cases_reach_every_price_of_every_model():
    """Every tier of every period, standard and fast, prices at least one case."""
    used = {
        (line.model, line.dimension, line.unit_price_usd)
        for case in CASES.values()
        for line in rate(fact_of(case), BOOK).cost_lines
    }
    missing = [
        (name, dimension, price)
        for name, periods in BOOK.models.items()
        for period in periods
        for tier in (*period.standard, *period.fast)
        for dimension, price in zip(tier.rates._fields, tier.rates, strict=True)
        if price is not None and (name, dimension, price) not in used
    ]
    assert missing == []
