"""What Anthropic's usage objects say in tokens."""

import msgspec
import pytest

from schemas.usage import TokenCounts
from schemas.usage_rules import (
    COUNT_MAX,
    FIVE_MINUTES,
    ONE_HOUR,
    TEXT_CHARS_MAX,
    USAGE_JSON_BYTES_MAX,
    Reading,
    cache_writes,
    reading_of,
)


def split(five_minutes, one_hour):
    return {"ephemeral_5m_input_tokens": five_minutes, "ephemeral_1h_input_tokens": one_hour}


FULL = {
    "input_tokens": 10,
    "output_tokens": 20,
    "cache_read_input_tokens": 30,
    "cache_creation_input_tokens": 7,
    "cache_creation": split(3, 4),
    "output_tokens_details": {"thinking_tokens": 5},
    "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 2},
    "service_tier": "priority",
    "speed": "fast",
    "inference_geo": "us",
    "of_tomorrow": [1, {"x": None}],
}


def test_every_known_figure_is_counted_and_the_object_kept_verbatim():
    assert reading_of(FULL, "none") == Reading(
        usage_status="final",
        tokens=TokenCounts(
            input_tokens=10,
            output_tokens=20,
            cache_read_tokens=30,
            cache_write_5m_tokens=3,
            cache_write_1h_tokens=4,
            thinking_tokens=5,
            web_search_requests=1,
            web_fetch_requests=2,
        ),
        usage=msgspec.Raw(msgspec.json.encode(FULL)),
        service_tier="priority",
        speed="fast",
        inference_geo="us",
    )


def test_no_usage_object_is_no_usage():
    assert reading_of({}, "none") == Reading()


ONLY_5M, ONLY_1H = (FIVE_MINUTES,), (ONE_HOUR,)


def writes(total, five_minutes=None, one_hour=None):
    usage = {"cache_creation_input_tokens": total}
    return usage if five_minutes is None else {**usage, "cache_creation": split(five_minutes, one_hour)}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, (0, 0, ())),
        ({"cache_creation": split(2, 3)}, (2, 3, ())),
        (writes(9), (9, 0, ())),
        (writes(5, None), (5, 0, ())),
        (writes(None, 2, 3), (2, 3, ())),
        (writes(5, 2, 3), (2, 3, ())),
        (writes(3337, 3068, 0), (3337, 0, ())),
        (writes(3337, 0, 3068), (0, 3337, ())),
        (writes(0, 2, 3), (0, 0, ())),
        (writes(0, 2, 0), (0, 0, ())),
        (writes(0, 0, 2), (0, 0, ())),
        (writes(9, 0, 0), (9, 0, ONLY_5M)),
        (writes(9, 2, 3), (6, 3, ONLY_5M)),
        (writes(4, 2, 3), (1, 3, (FIVE_MINUTES, ONE_HOUR))),
        (writes(2, 2, 3), (0, 2, (FIVE_MINUTES, ONE_HOUR))),
    ],
)
def test_the_total_of_cache_writes_is_right_and_its_split_follows(usage, expected):
    assert cache_writes(usage, "none") == expected


@pytest.mark.parametrize(
    ("usage", "asked", "expected"),
    [
        (writes(9, 0, 0), "5m", (9, 0, ())),
        (writes(9, 0, 0), "1h", (0, 9, ())),
        (writes(9, 0, 0), "both", (9, 0, ONLY_5M)),
        (writes(9), "1h", (0, 9, ())),
        (writes(9), "5m", (9, 0, ())),
        (writes(9), "both", (9, 0, ONLY_5M)),
        (writes(9, 2, 0), "1h", (9, 0, ())),
        (writes(9, 0, 2), "5m", (0, 9, ())),
        (writes(9, 2, 3), "5m", (6, 3, ONLY_5M)),
        (writes(9, 2, 3), "1h", (2, 7, ONLY_1H)),
        (writes(9, 2, 3), "both", (6, 3, ONLY_5M)),
        (writes(5, 2, 3), "1h", (2, 3, ())),
    ],
)
def test_what_no_split_explains_goes_where_the_split_or_else_the_request_says(usage, asked, expected):
    assert cache_writes(usage, asked) == expected


def test_a_guessed_split_is_estimated_and_names_what_was_guessed():
    reading = reading_of(writes(9, 2, 3), "both")
    assert (reading.usage_status, reading.estimated_dimensions) == ("estimated", ONLY_5M)


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("input_tokens", "input_tokens"),
        ("output_tokens", "output_tokens"),
        ("cache_read_input_tokens", "cache_read_tokens"),
        ("cache_creation_input_tokens", FIVE_MINUTES),
    ],
)
def test_a_figure_that_is_no_count_is_named_as_estimated(name, dimension):
    reading = reading_of({"input_tokens": 1, "output_tokens": 2, name: -1}, "none")
    assert (reading.usage_status, reading.estimated_dimensions) == ("estimated", (dimension,))


def test_iterations_are_kept_whole():
    iterations = [
        {"type": "compaction", "input_tokens": 55_000, "output_tokens": 900, "cache_creation": split(0, 7)},
        {"type": "advisor_message", "model": "claude-opus-5-5", "input_tokens": 2543, "output_tokens": 18},
        {"type": "message", "input_tokens": 10, "output_tokens": 5, "of_tomorrow": {"x": [1, None]}},
    ]
    usage = {"input_tokens": 1, "output_tokens": 5, "iterations": iterations}
    assert msgspec.json.decode(reading_of(usage, "none").usage)["iterations"] == iterations


@pytest.mark.parametrize("absurd", [None, "7", 1.5, -1, COUNT_MAX + 1, 10**400, True, [1], {"a": 1}])
def test_a_figure_that_is_no_count_counts_nothing(absurd):
    usage = {
        "input_tokens": absurd,
        "output_tokens": 3,
        "cache_read_input_tokens": absurd,
        "cache_creation": split(absurd, absurd),
        "output_tokens_details": {"thinking_tokens": absurd},
        "server_tool_use": {"web_search_requests": absurd},
    }
    assert reading_of(usage, "none").tokens == TokenCounts(output_tokens=3)


def test_the_largest_count_counts():
    assert reading_of({"input_tokens": COUNT_MAX}, "none").tokens == TokenCounts(input_tokens=COUNT_MAX)


@pytest.mark.parametrize("absurd", [None, 7, "x", [1], True])
def test_a_part_that_is_no_object_counts_nothing(absurd):
    usage = {
        "input_tokens": 1,
        "cache_creation": absurd,
        "output_tokens_details": absurd,
        "server_tool_use": absurd,
        "service_tier": None,
        "speed": 5,
        "inference_geo": ["us"],
    }
    assert reading_of(usage, "none") == Reading(
        usage_status="final",
        tokens=TokenCounts(input_tokens=1),
        usage=msgspec.Raw(msgspec.json.encode(usage)),
    )


def test_a_usage_object_beyond_its_limit_is_counted_and_not_kept():
    usage = {"input_tokens": 1, "padding": "x" * USAGE_JSON_BYTES_MAX}
    assert reading_of(usage, "none") == Reading(usage_status="estimated", tokens=TokenCounts(input_tokens=1))


def test_names_are_cut_at_their_limit():
    reading = reading_of({"input_tokens": 1, "speed": "x" * 10_000}, "none")
    assert reading.speed == "x" * TEXT_CHARS_MAX


def test_a_usage_object_nested_beyond_the_stack_is_counted_and_not_kept():
    nested = []
    for _ in range(5000):
        nested = [nested]
    usage = {"input_tokens": 1, "deep": nested}
    assert reading_of(usage, "none") == Reading(usage_status="estimated", tokens=TokenCounts(input_tokens=1))
