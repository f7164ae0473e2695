"""What usage.iterations adds and takes away; shapes as the API sends them, figures of our own."""

from decimal import Decimal

import pytest

from services.rating.pricing import judge, rate
from tests.unit.rating.cases import BOOK, bill, lines, usage


def entry(kind="message", model=None, **counts):
    """One entry with its four counts and the split of its cache writes."""
    split = {
        "ephemeral_5m_input_tokens": counts.pop("write_5m", 0),
        "ephemeral_1h_input_tokens": counts.pop("write_1h", 0),
    }
    written = {
        "input_tokens": counts.pop("input", 0),
        "output_tokens": counts.pop("output", 0),
        "cache_read_input_tokens": counts.pop("read", 0),
        "cache_creation_input_tokens": counts.pop("written", sum(split.values())),
        "cache_creation": split,
        "type": kind,
    }
    assert not counts
    return written | ({"model": model} if model else {})


def test_a_compaction_is_billed_at_the_messages_model_though_the_top_level_leaves_it_out():
    fact = usage(
        "claude-sonnet-4-6",
        tokens={"input_tokens": 230, "output_tokens": 6},
        usage={
            "input_tokens": 230,
            "output_tokens": 6,
            "inference_geo": "global",
            "service_tier": "standard",
            "iterations": [
                entry("compaction", input=100, output=130, write_5m=55_000),
                entry(input=230, output=6),
            ],
        },
    )
    # input 330 x 3 = 990; output 136 x 15 = 2,040; writes 55,000 x 3.75 = 206,250; in millionths
    assert lines(rate(fact, BOOK)) == [
        ("claude-sonnet-4-6", "input", 330, "3", "1", "0.00099"),
        ("claude-sonnet-4-6", "output", 136, "15", "1", "0.00204"),
        ("claude-sonnet-4-6", "cache_write_5m", 55_000, "3.75", "1", "0.20625"),
    ]
    assert bill(rate(fact, BOOK)) == ("priced", Decimal("0.20928"))


def test_an_advisor_is_billed_at_its_own_model():
    fact = usage(
        "claude-sonnet-5",
        tokens={"input_tokens": 2400, "output_tokens": 145, "thinking_tokens": 47, "web_search_requests": 1},
        usage={
            "input_tokens": 2400,
            "output_tokens": 145,
            "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
            "iterations": [
                entry(input=1100, output=135),
                entry("advisor_message", "claude-opus-4-8", input=2500, output=20),
                entry(input=1300, output=10),
            ],
        },
    )
    # 2,400 x 2; 145 x 10; advisor 2,500 x 5 and 20 x 25; one search, once
    assert lines(rate(fact, BOOK)) == [
        ("claude-sonnet-5", "input", 2400, "2", "1", "0.0048"),
        ("claude-sonnet-5", "output", 145, "10", "1", "0.00145"),
        ("claude-opus-4-8", "input", 2500, "5", "1", "0.0125"),
        ("claude-opus-4-8", "output", 20, "25", "1", "0.0005"),
        ("claude-sonnet-5", "web_search", 1, "10000", "1", "0.01"),
    ]


def test_a_cheap_executor_does_not_hide_a_dear_advisor():
    """The case where others book $0.156."""
    fact = usage(
        "claude-haiku-4-5",
        tokens={"input_tokens": 5000, "output_tokens": 200},
        usage={
            "iterations": [
                entry(input=5000, output=200),
                entry("advisor_message", "claude-opus-5-5", input=100_000, output=10_000),
            ]
        },
    )
    # 5,000 x 1 + 200 x 5 = 0.006; 100,000 x 4 + 10,000 x 20 = 0.6
    assert bill(rate(fact, BOOK)) == ("priced", Decimal("0.606"))


def test_a_declined_attempt_without_output_is_not_billed_and_its_fallback_is():
    fact = usage(
        "claude-opus-5",
        model_requested="claude-fable-5-2",
        tokens={"input_tokens": 1000, "output_tokens": 50},
        usage={
            "iterations": [
                entry(model="claude-fable-5-2", input=900),
                entry("fallback_message", "claude-opus-5", input=1000, output=50),
            ]
        },
    )
    # 1,000 x 5 = 0.005; 50 x 25 = 0.00125
    assert bill(rate(fact, BOOK)) == ("priced", Decimal("0.00625"))


def test_an_attempt_that_was_declined_in_mid_answer_is_billed_beside_its_fallback():
    fact = usage(
        "claude-fable-5-2",
        tokens={"input_tokens": 1000, "output_tokens": 50},
        usage={
            "iterations": [
                entry(input=1000, output=10),
                entry("fallback_message", "claude-opus-5", input=1010, output=50),
            ]
        },
    )
    # 1,000 x 8 + 10 x 40 = 0.0084; 1,010 x 5 + 50 x 25 = 0.0063
    assert bill(rate(fact, BOOK)) == ("priced", Decimal("0.0147"))


@pytest.mark.parametrize(
    ("entries", "cost"),
    [
        # nothing was put out by anyone
        ([entry(input=900), entry("fallback_message", "claude-opus-5", input=900)], "0"),
        ([entry(input=900)], "0"),
        # the compaction before it was work: 1,000 x 8 + 100 x 40
        ([entry("compaction", input=1000, output=100), entry(input=900)], "0.012"),
    ],
)
def test_a_message_that_ends_in_refusal_bills_only_what_put_something_out(entries, cost):
    fact = usage(
        "claude-fable-5-2", stop_reason="refusal", tokens={"input_tokens": 900}, usage={"iterations": entries}
    )
    assert rate(fact, BOOK).cost_usd == Decimal(cost)


def test_a_single_attempt_without_output_warmed_the_cache_and_is_billed():
    fact = usage(
        "claude-opus-5", stop_reason="max_tokens", usage={"iterations": [entry(input=10, write_1h=2000)]}
    )
    # 10 x 5 = 0.00005; 2,000 x 10 = 0.02
    assert bill(rate(fact, BOOK)) == ("priced", Decimal("0.02005"))


def test_each_attempt_has_its_own_prompt_tier():
    fact = usage(
        "claude-haiku-5-5",
        tokens={"input_tokens": 160_000, "output_tokens": 200},
        usage={"iterations": [entry(input=60_000, output=100), entry(input=100_000, output=100)]},
    )
    # together 160,000, but neither is above 100,000: 160,000 x 0.10 + 200 x 0.50
    assert bill(rate(fact, BOOK)) == ("priced", Decimal("0.0161"))


def test_attempts_in_different_tiers_have_lines_of_their_own():
    fact = usage(
        "claude-haiku-5-5",
        usage={"iterations": [entry(input=100_000), entry(input=1, read=100_000, output=1)]},
        stop_reason="tool_use",
    )
    # the first put out nothing and was followed: not billed; the second is above 100,000
    assert lines(rate(fact, BOOK)) == [
        ("claude-haiku-5-5", "input", 1, "0.5", "1", "0.0000005"),
        ("claude-haiku-5-5", "output", 1, "2.5", "1", "0.0000025"),
        ("claude-haiku-5-5", "cache_read", 100_000, "0.05", "1", "0.005"),
    ]
    fact = usage(
        "claude-haiku-5-5",
        usage={"iterations": [entry(input=100_000, output=1), entry(input=100_001, output=1)]},
    )
    assert lines(rate(fact, BOOK)) == [
        ("claude-haiku-5-5", "input", 100_000, "0.1", "1", "0.01"),
        ("claude-haiku-5-5", "output", 1, "0.5", "1", "0.0000005"),
        ("claude-haiku-5-5", "input", 100_001, "0.5", "1", "0.0500005"),
        ("claude-haiku-5-5", "output", 1, "2.5", "1", "0.0000025"),
    ]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        # the split leaves 10 tokens out: they go to the only lifetime, else to five minutes
        ({"write_5m": 30, "write_1h": 0, "written": 40}, {"cache_write_5m": 40}),
        ({"write_5m": 0, "write_1h": 30, "written": 40}, {"cache_write_1h": 40}),
        ({"write_5m": 20, "write_1h": 10, "written": 40}, {"cache_write_5m": 30, "cache_write_1h": 10}),
        ({"write_5m": 0, "write_1h": 0, "written": 40}, {"cache_write_5m": 40}),
        # the split says more than the total: it is the finer record
        ({"write_5m": 20, "write_1h": 30, "written": 40}, {"cache_write_5m": 20, "cache_write_1h": 30}),
    ],
)
def test_cache_writes_that_the_split_leaves_out_are_not_lost(split, expected):
    fact = usage("claude-opus-5", usage={"iterations": [entry(**split)]})
    assert {line.dimension: line.units for line in rate(fact, BOOK).cost_lines} == expected


def test_modifiers_reach_every_attempt_but_fast_mode_is_the_messages():
    fact = usage(
        "claude-opus-5-5",
        speed="fast",
        inference_geo="us",
        usage={
            "iterations": [entry(input=1000, output=1), entry("advisor_message", "claude-opus-5", output=100)]
        },
    )
    # fast 1,000 x 8 x 1.1 = 0.0088; 1 x 40 x 1.1; the advisor at its standard 100 x 25 x 1.1 = 0.00275
    assert lines(rate(fact, BOOK)) == [
        ("claude-opus-5-5", "input", 1000, "8", "1.1", "0.0088"),
        ("claude-opus-5-5", "output", 1, "40", "1.1", "0.000044"),
        ("claude-opus-5", "output", 100, "25", "1.1", "0.00275"),
    ]


def test_an_advisor_without_a_price_leaves_the_rest_priced_and_the_whole_partial():
    fact = usage(
        "claude-sonnet-5",
        tokens={"input_tokens": 1000, "output_tokens": 100, "web_search_requests": 1},
        usage={
            "iterations": [entry(input=1000, output=100), entry("advisor_message", "claude-opus-9", input=5)]
        },
    )
    verdict = judge(fact, BOOK)
    # 1,000 x 2 + 100 x 10 = 0.003; one search 0.01
    assert bill(verdict.rated) == ("partial", Decimal("0.013"))
    assert (verdict.rated.unpriced_dimensions, verdict.reason) == (("claude-opus-9/input",), "unknown_model")


def test_an_entry_of_a_kind_that_is_not_known_is_billed_too():
    fact = usage(
        "claude-opus-5", usage={"iterations": [entry("critique", input=1000), entry(input=1000, output=1)]}
    )
    # 2,000 x 5 = 0.01; 1 x 25 = 0.000025
    assert bill(rate(fact, BOOK)) == ("priced", Decimal("0.010025"))


def test_iterations_of_an_answer_whose_end_was_not_seen_do_not_hide_the_counts():
    fact = usage(
        "claude-opus-5",
        usage_status="estimated",
        outcome="client_gone",
        tokens={"input_tokens": 1000, "output_tokens": 80},
        usage={"iterations": [entry(input=1000, output=1)]},
    )
    # 1,000 x 5 = 0.005; 80 x 25 = 0.002
    assert bill(rate(fact, BOOK)) == ("priced", Decimal("0.007"))


@pytest.mark.parametrize("nothing", [[], None])
def test_without_entries_the_counts_are_the_bill(nothing):
    fact = usage(
        "claude-opus-5", tokens={"input_tokens": 1000}, usage={"input_tokens": 1000, "iterations": nothing}
    )
    assert bill(rate(fact, BOOK)) == ("priced", Decimal("0.005"))
