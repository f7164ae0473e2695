"""What a usage costs: tiers, dates, modifiers, what is free, what is unknown; sums are in the comments."""

from decimal import Decimal

import pytest

from schemas.ids import rated_id
from schemas.rated import CostLine, RatedUsage
from services.rating.errors import ImplausibleUsage
from services.rating.pricing import judge, rate
from tests.unit.rating.cases import BOOK, TODAY, bill, day, lines, usage

HAIKU = "claude-haiku-5-5"
MILLION = 1_000_000


def test_a_usage_becomes_a_rated_usage_whole():
    fact = usage(
        "claude-sonnet-4-5-20250929",
        tokens={"input_tokens": 3, "output_tokens": 414, "cache_read_tokens": 1111},
    )
    # 3 x 3 = 9; 414 x 15 = 6,210; 1,111 x 0.30 = 333.3; together 6,552.3 millionths of a dollar
    assert rate(fact, BOOK) == RatedUsage(
        rated_id=rated_id(fact.request_id, BOOK.book_seq),
        usage=fact,
        cost_status="priced",
        cost_usd=Decimal("0.0065523"),
        cost_lines=(
            line("input", 3, "0.000003", "0.000009"),
            line("output", 414, "0.000015", "0.00621"),
            line("cache_read", 1111, "0.0000003", "0.0003333"),
        ),
        price_book=BOOK.label,
        book_seq=2000,
        row_version=(1 << 32) + 2000,
        book_hash=BOOK.content_hash,
    )


def line(dimension, units, unit_price, amount):
    return CostLine(
        model="claude-sonnet-4-5",
        dimension=dimension,
        units=units,
        unit_price_usd=Decimal(unit_price),
        multiplier=Decimal(1),
        amount_usd=Decimal(amount),
    )


@pytest.mark.parametrize(
    ("prompt", "cost"),
    [
        # 100,000 x 0.10 = 0.01; 1,000 x 0.50 = 0.0005
        ({"input_tokens": 100_000}, "0.0105"),
        # 100,001 x 0.50 = 0.0500005; 1,000 x 2.50 = 0.0025
        ({"input_tokens": 100_001}, "0.0525005"),
        # 20,000 x 0.10 = 0.002; 50,000 x 0.01 = 0.0005; 20,000 x 0.125 = 0.0025; 10,000 x 0.20 = 0.002;
        # 1,000 x 0.50 = 0.0005
        (
            {
                "input_tokens": 20_000,
                "cache_read_tokens": 50_000,
                "cache_write_5m_tokens": 20_000,
                "cache_write_1h_tokens": 10_000,
            },
            "0.0075",
        ),
        # one more token read: 20,000 x 0.50 = 0.01; 50,001 x 0.05 = 0.00250005; 20,000 x 0.625 = 0.0125;
        # 10,000 x 1.00 = 0.01; 1,000 x 2.50 = 0.0025
        (
            {
                "input_tokens": 20_000,
                "cache_read_tokens": 50_001,
                "cache_write_5m_tokens": 20_000,
                "cache_write_1h_tokens": 10_000,
            },
            "0.03750005",
        ),
    ],
)
def test_the_whole_prompt_decides_the_tier_and_the_tier_prices_every_token(prompt, cost):
    rated = rate(usage(HAIKU, tokens={"output_tokens": 1000, **prompt}), BOOK)
    assert bill(rated) == ("priced", Decimal(cost))


def test_output_does_not_count_towards_the_tier():
    rated = rate(usage(HAIKU, tokens={"input_tokens": 100_000, "output_tokens": 64_000}), BOOK)
    # 100,000 x 0.10 = 0.01; 64,000 x 0.50 = 0.032
    assert bill(rated) == ("priced", Decimal("0.042"))


@pytest.mark.parametrize(
    ("at", "cost"),
    [
        ("2026-10-06T23:59:59.999999", "0.20"),
        ("2026-10-07T00:00:00", "0.10"),
    ],
)
def test_a_price_holds_from_the_first_moment_of_its_day(at, cost):
    rated = rate(usage("claude-sonnet-5-5", started_at=day(at), tokens={"cache_read_tokens": MILLION}), BOOK)
    assert bill(rated) == ("priced", Decimal(cost))


@pytest.mark.parametrize(
    ("model", "modifiers", "multiplier", "cost"),
    [
        # opus-5-5, 1,000,000 in at 4 and 100,000 out at 20: 4 + 2 = 6
        ("claude-opus-5-5", {}, "1", "6"),
        ("claude-opus-5-5", {"inference_geo": "global"}, "1", "6"),
        ("claude-opus-5-5", {"inference_geo": "not_available"}, "1", "6"),
        ("claude-opus-5-5", {"service_tier": "priority"}, "1", "6"),
        ("claude-opus-5-5", {"inference_geo": "us"}, "1.1", "6.6"),
        ("claude-opus-5-5", {"service_tier": "batch"}, "0.5", "3"),
        # 6 x 0.5 x 1.1
        ("claude-opus-5-5", {"service_tier": "batch", "inference_geo": "us"}, "0.55", "3.3"),
        # fast: 8 + 4 = 12
        ("claude-opus-5-5", {"speed": "fast"}, "1", "12"),
        # 12 x 1.1
        ("claude-opus-5-5", {"speed": "fast", "inference_geo": "us"}, "1.1", "13.2"),
        # a batch has no fast mode: 6 x 0.5 x 1.1
        (
            "claude-opus-5-5",
            {"speed": "fast", "service_tier": "batch", "inference_geo": "us"},
            "0.55",
            "3.3",
        ),
        # models before 4.6 have no region: 5 + 2.5
        ("claude-opus-4-5", {"inference_geo": "us"}, "1", "7.5"),
        ("claude-opus-4-6", {"inference_geo": "us"}, "1.1", "8.25"),
    ],
)
def test_modifiers_multiply(model, modifiers, multiplier, cost):
    rated = rate(usage(model, tokens={"input_tokens": MILLION, "output_tokens": 100_000}, **modifiers), BOOK)
    assert bill(rated) == ("priced", Decimal(cost))
    assert {str(each.multiplier) for each in rated.cost_lines} == {multiplier}


def test_a_batch_item_is_at_half_price_in_its_long_prompt_tier_too():
    rated = rate(
        usage(
            HAIKU,
            operation="batch_item",
            outcome="succeeded",
            tokens={"input_tokens": 200_000, "output_tokens": 1000, "web_search_requests": 2},
        ),
        BOOK,
    )
    assert lines(rated) == [
        (HAIKU, "input", 200_000, "0.5", "0.5", "0.05"),
        (HAIKU, "output", 1000, "2.5", "0.5", "0.00125"),
        # 2 x 0.01, no discount
        (HAIKU, "web_search", 2, "10000", "1", "0.02"),
    ]


def test_searches_have_no_discount_and_no_surcharge_and_fetches_are_free():
    rated = rate(
        usage(
            "claude-opus-5-5",
            service_tier="batch",
            inference_geo="us",
            tokens={"output_tokens": 100_000, "web_search_requests": 5, "web_fetch_requests": 3},
        ),
        BOOK,
    )
    assert lines(rated) == [
        ("claude-opus-5-5", "output", 100_000, "20", "0.55", "1.1"),
        ("claude-opus-5-5", "web_search", 5, "10000", "1", "0.05"),
        ("claude-opus-5-5", "web_fetch", 3, "0", "1", "0"),
    ]
    assert bill(rated) == ("priced", Decimal("1.15"))


@pytest.mark.parametrize(
    ("what", "model", "changes", "cost"),
    [
        # one-hour writes at half: 1,000,000 x 6 x 0.5
        (
            "1h batch",
            "claude-sonnet-4-5",
            {"service_tier": "batch", "tokens": {"cache_write_1h_tokens": MILLION}},
            "3",
        ),
        # region and batch together: 1,000,000 x 4 x 0.5 x 1.1
        (
            "geo batch",
            "claude-opus-5-5",
            {"service_tier": "batch", "inference_geo": "us", "tokens": {"input_tokens": MILLION}},
            "2.2",
        ),
        # five searches in a batch, and five at haiku 4.5
        (
            "search batch",
            "claude-opus-5-5",
            {"service_tier": "batch", "tokens": {"web_search_requests": 5}},
            "0.05",
        ),
        ("search haiku", "claude-haiku-4-5", {"tokens": {"web_search_requests": 5}}, "0.05"),
        # retired models keep their prices: 1,000 x 3 = 0.003 and 1,000 x 15 = 0.015
        ("retired", "claude-sonnet-4-20250514", {"tokens": {"input_tokens": 1000}}, "0.003"),
        ("retired", "claude-opus-4-1", {"tokens": {"input_tokens": 1000}}, "0.015"),
        (
            "retired",
            "claude-3-opus-20240229",
            {"tokens": {"input_tokens": 22, "output_tokens": 15}},
            "0.001455",
        ),
        ("cliff below", HAIKU, {"tokens": {"input_tokens": 100_000, "output_tokens": 1000}}, "0.0105"),
        ("cliff above", HAIKU, {"tokens": {"input_tokens": 100_001, "output_tokens": 1000}}, "0.0525005"),
    ],
)
def test_what_other_gateways_get_wrong(what, model, changes, cost):
    assert bill(rate(usage(model, **changes), BOOK)) == ("priced", Decimal(cost)), what


@pytest.mark.parametrize(
    ("changes", "missing", "reason"),
    [
        (
            {"model": "claude-opus-6-20261201"},
            ("claude-opus-6-20261201/input", "web_search"),
            "unknown_model",
        ),
        ({"model": "claude-sonnet-6"}, ("claude-sonnet-6/input", "web_search"), "unknown_model"),
        ({"model": ""}, ("/input", "web_search"), "unknown_model"),
        (
            {"model": HAIKU, "started_at": day("2026-10-06")},
            ("claude-haiku-5-5/input", "web_search"),
            "no_price_at_date",
        ),
        (
            {"model": "claude-sonnet-5-5", "speed": "fast"},
            ("claude-sonnet-5-5/input", "web_search"),
            "no_price_at_date",
        ),
        (
            {"model": "claude-opus-4-8", "speed": "fast", "started_at": day("2026-12-01")},
            ("claude-opus-4-8/input", "web_search"),
            "no_price_at_date",
        ),
        (
            {"model": HAIKU, "speed": "ludicrous"},
            ("claude-haiku-5-5/input", "web_search"),
            "unknown_modifier",
        ),
        (
            {"model": HAIKU, "service_tier": "flex"},
            ("claude-haiku-5-5/input", "web_search"),
            "unknown_modifier",
        ),
    ],
)
def test_what_has_no_price_is_unpriced_and_never_a_sum_of_zero_lines(changes, missing, reason):
    verdict = judge(usage(tokens={"input_tokens": 10, "web_search_requests": 1}, **changes), BOOK)
    assert (bill(verdict.rated), verdict.rated.cost_lines) == (("unpriced", Decimal(0)), ())
    assert (verdict.rated.unpriced_dimensions, verdict.reason) == (missing, reason)


def test_the_last_day_of_fast_mode_still_has_its_price():
    rated = rate(
        usage(
            "claude-opus-4-8",
            speed="fast",
            started_at=day("2026-11-30T23:00:00"),
            tokens={"input_tokens": MILLION},
        ),
        BOOK,
    )
    assert bill(rated) == ("priced", Decimal(10))


def test_an_unknown_region_is_booked_at_list_and_called_partial():
    verdict = judge(usage("claude-opus-5-5", inference_geo="eu", tokens={"input_tokens": MILLION}), BOOK)
    assert bill(verdict.rated) == ("partial", Decimal(4))
    assert (verdict.rated.unpriced_dimensions, verdict.reason) == (("inference_geo",), "unknown_modifier")


def test_an_unknown_region_does_not_matter_to_a_model_that_has_none():
    rated = rate(usage("claude-haiku-4-5", inference_geo="eu", tokens={"input_tokens": MILLION}), BOOK)
    assert bill(rated) == ("priced", Decimal(1))


@pytest.mark.parametrize(
    ("verbatim", "missing"),
    [
        (
            {"server_tool_use": {"web_search_requests": 0, "code_execution_requests": 2}},
            ("code_execution_requests",),
        ),
        ({"cache_creation": {"ephemeral_24h_input_tokens": 9}}, ("ephemeral_24h_input_tokens",)),
        ({"iterations": {"not": "a list"}}, ("usage",)),
        ({"iterations": [{"type": "message", "input_tokens": -1}]}, ("usage",)),
        ({"iterations": [{"type": "message", "input_tokens": 0.5}]}, ("usage",)),
    ],
)
def test_what_no_dimension_covers_makes_a_cost_partial(verbatim, missing):
    verdict = judge(usage("claude-haiku-4-5", usage=verbatim, tokens={"input_tokens": MILLION}), BOOK)
    assert bill(verdict.rated) == ("partial", Decimal(1))
    assert (verdict.rated.unpriced_dimensions, verdict.reason) == (missing, "unknown_dimension")


def test_a_usage_object_that_had_no_room_in_its_event_makes_a_cost_partial():
    """Its iterations, if it had any, would have been the bill."""
    rated = rate(usage("claude-haiku-4-5", cut=("usage",), tokens={"input_tokens": MILLION}), BOOK)
    assert (bill(rated), rated.unpriced_dimensions) == (("partial", Decimal(1)), ("usage",))


def test_an_unknown_tool_that_was_not_used_changes_nothing():
    verbatim = {"server_tool_use": {"tool_of_tomorrow_requests": 0}, "field_of_tomorrow": {"x": 1}}
    rated = rate(usage("claude-haiku-4-5", usage=verbatim, tokens={"input_tokens": MILLION}), BOOK)
    assert bill(rated) == ("priced", Decimal(1))


TOKENS = {"input_tokens": 1000, "output_tokens": 0}
NO_USAGE = {"usage_status": "none", "model": "claude-of-tomorrow"}
UNREACHABLE = {**NO_USAGE, "error_type": "upstream_unreachable"}


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        (
            "counting is free",
            {"operation": "count_tokens", "endpoint": "/v1/messages/count_tokens", **NO_USAGE},
        ),
        ("a batch is billed by its items", {"operation": "batches", **NO_USAGE}),
        ("models", {"operation": "models", **NO_USAGE}),
        ("files", {"operation": "files", **NO_USAGE}),
        ("skills", {"operation": "skills", **NO_USAGE}),
        ("the gateway refused", {"outcome": "refused", "http_status": 429, **NO_USAGE}),
        ("upstream refused", {"outcome": "upstream_error", "http_status": 529, **NO_USAGE}),
        ("upstream refused, client gone", {"outcome": "client_gone", "http_status": 500, **NO_USAGE}),
        ("upstream broke off an error", {"outcome": "upstream_cut", "http_status": 529, **NO_USAGE}),
        ("an error event before any usage", {"outcome": "upstream_error", "http_status": 200, **NO_USAGE}),
        ("upstream could not be reached", {"outcome": "upstream_cut", "http_status": 502, **UNREACHABLE}),
        ("upstream was not reached in time", {"outcome": "timed_out", "http_status": 502, **UNREACHABLE}),
        ("not reached, client gone", {"outcome": "client_gone", "http_status": 0, **UNREACHABLE}),
        (
            "a count of tokens died with its edge",
            {"operation": "count_tokens", "outcome": "orphaned", **NO_USAGE},
        ),
        ("an item errored", {"operation": "batch_item", "outcome": "errored", **NO_USAGE}),
        ("an item was canceled", {"operation": "batch_item", "outcome": "canceled", **NO_USAGE}),
        ("an item expired", {"operation": "batch_item", "outcome": "expired", **NO_USAGE}),
        (
            "an unknown endpoint failed",
            {"operation": "other", "endpoint": "/v2/*", "http_status": 404, **NO_USAGE},
        ),
        ("administration", {"operation": "other", "endpoint": "/v1/organizations/*", **NO_USAGE}),
        ("a greeting", {"operation": "other", "endpoint": "/api/hello", **NO_USAGE}),
        ("a refusal before any output", {"stop_reason": "refusal", "tokens": TOKENS}),
        ("an answer of nothing", {"tokens": {}}),
    ],
)
def test_what_is_known_to_be_free_costs_zero(what, changes):
    verdict = judge(usage(**changes), BOOK)
    assert (bill(verdict.rated), verdict.rated.cost_lines, verdict.reason) == (
        ("zero", Decimal(0)),
        (),
        None,
    ), what


@pytest.mark.parametrize(
    ("what", "changes", "reason"),
    [
        ("a session", {"operation": "other", "endpoint": "/v1/sessions/*"}, "unknown_endpoint"),
        (
            "not below a free one",
            {"operation": "other", "endpoint": "/v1/organizationsx"},
            "unknown_endpoint",
        ),
        ("usage of an unknown kind", {"operation": "other", "tokens": TOKENS}, "unknown_endpoint"),
        ("an answer that could not be read", {"usage_status": "none"}, "no_usage"),
        (
            "a client that left early",
            {"usage_status": "none", "outcome": "client_gone", "http_status": 0},
            "no_usage",
        ),
        ("an edge that died", {"usage_status": "none", "outcome": "orphaned", "http_status": 0}, "no_usage"),
        ("a wait given up", {"usage_status": "none", "outcome": "timed_out", "http_status": 0}, "no_usage"),
        (
            "a wait given up, with a status of ours",
            {"usage_status": "none", "outcome": "timed_out", "http_status": 504},
            "no_usage",
        ),
        (
            "a stop, with a status of ours",
            {"usage_status": "none", "outcome": "orphaned", "http_status": 503},
            "no_usage",
        ),
        (
            "a connection that broke before an answer",
            {
                "usage_status": "none",
                "outcome": "upstream_cut",
                "http_status": 502,
                "error_type": "api_error",
            },
            "no_usage",
        ),
        (
            "the same, without a status of ours",
            {"usage_status": "none", "outcome": "upstream_cut", "http_status": 0},
            "no_usage",
        ),
        (
            "an answer that broke off before any usage",
            {"usage_status": "none", "outcome": "upstream_cut", "http_status": 200},
            "no_usage",
        ),
        (
            "an item that could not be read",
            {"operation": "batch_item", "outcome": "succeeded", "usage_status": "none"},
            "no_usage",
        ),
    ],
)
def test_what_may_have_cost_something_is_unpriced(what, changes, reason):
    verdict = judge(usage(**changes), BOOK)
    assert (bill(verdict.rated), verdict.reason) == (("unpriced", Decimal(0)), reason), what


def test_a_refusal_in_mid_answer_is_billed():
    rated = rate(usage(stop_reason="refusal", tokens={"input_tokens": 1000, "output_tokens": 100}), BOOK)
    # 1,000 x 2 = 0.002; 100 x 10 = 0.001
    assert bill(rated) == ("priced", Decimal("0.003"))


def test_warming_the_cache_is_billed():
    rated = rate(
        usage(stop_reason="max_tokens", tokens={"input_tokens": 5, "cache_write_5m_tokens": 4000}), BOOK
    )
    # 5 x 2 = 0.00001; 4,000 x 2.5 = 0.01
    assert bill(rated) == ("priced", Decimal("0.01001"))


@pytest.mark.parametrize("status", ["partial", "estimated"])
@pytest.mark.parametrize(
    "outcome", ["client_gone", "upstream_error", "upstream_cut", "timed_out", "orphaned"]
)
def test_an_unfinished_answer_is_priced_as_far_as_it_is_known(status, outcome):
    fact = usage(usage_status=status, outcome=outcome, tokens={"input_tokens": 1000, "output_tokens": 7})
    # 1,000 x 2 = 0.002; 7 x 10 = 0.00007
    assert bill(rate(fact, BOOK)) == ("priced", Decimal("0.00207"))


def test_the_model_that_was_asked_for_stands_in_where_none_was_named():
    rated = rate(usage("", model_requested="claude-opus-5", tokens={"input_tokens": MILLION}), BOOK)
    assert bill(rated) == ("priced", Decimal(5))


def test_an_orphan_ranks_below_a_real_ending_at_the_same_book():
    orphaned = rate(usage(outcome="orphaned", usage_status="partial"), BOOK)
    ended = rate(usage(), BOOK)
    assert orphaned.rated_id == ended.rated_id
    assert orphaned.row_version < ended.row_version


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": {"input_tokens": -1}},
        {"tokens": {"web_search_requests": 10**15 + 1}},
        {"started_at": TODAY.replace(tzinfo=None)},
    ],
)
def test_what_cannot_be_true_is_not_priced(changes):
    with pytest.raises(ImplausibleUsage):
        rate(usage(**changes), BOOK)
