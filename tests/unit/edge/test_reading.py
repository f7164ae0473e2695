"""What Anthropic's usage objects say in tokens."""

import msgspec
import pytest

from schemas.usage import TokenCounts
from services.edge.tap.reading import (
    COUNT_MAX,
    TEXT_CHARS_MAX,
    USAGE_JSON_BYTES_MAX,
    Reading,
    cache_writes,
    overwritten,
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
    assert reading_of(FULL, "final") == Reading(
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
    assert reading_of({}, "final") == Reading()


@pytest.mark.parametrize(
    ("start", "delta", "expected"),
    [
        ({"a": 1}, {"a": 5}, {"a": 5}),
        ({"a": 55096}, {"a": 0}, {"a": 0}),
        ({"a": 1}, {"a": None}, {"a": 1}),
        ({"a": 1}, {}, {"a": 1}),
        ({}, {"a": 1}, {"a": 1}),
        ({"a": None}, {"a": None}, {"a": None}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 3}}, {"a": {"x": 3}}),
    ],
)
def test_a_later_figure_that_is_there_and_not_null_replaces_and_never_adds(start, delta, expected):
    assert overwritten(start, delta) == expected


def test_overwriting_changes_neither_object():
    start, delta = {"a": 1}, {"a": 2}
    overwritten(start, delta)
    assert (start, delta) == ({"a": 1}, {"a": 2})


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, (0, 0, False)),
        ({"cache_creation_input_tokens": 9}, (9, 0, False)),
        ({"cache_creation_input_tokens": None, "cache_creation": split(2, 3)}, (2, 3, False)),
        ({"cache_creation": split(2, 3)}, (2, 3, False)),
        ({"cache_creation_input_tokens": 5, "cache_creation": split(2, 3)}, (2, 3, False)),
        ({"cache_creation_input_tokens": 5, "cache_creation": None}, (5, 0, False)),
        ({"cache_creation_input_tokens": 3337, "cache_creation": split(3068, 0)}, (3337, 0, False)),
        ({"cache_creation_input_tokens": 3337, "cache_creation": split(0, 3068)}, (0, 3337, False)),
        ({"cache_creation_input_tokens": 9, "cache_creation": split(0, 0)}, (9, 0, False)),
        ({"cache_creation_input_tokens": 9, "cache_creation": split(2, 3)}, (6, 3, True)),
        ({"cache_creation_input_tokens": 4, "cache_creation": split(2, 3)}, (1, 3, True)),
        ({"cache_creation_input_tokens": 2, "cache_creation": split(2, 3)}, (0, 2, True)),
        ({"cache_creation_input_tokens": 0, "cache_creation": split(2, 3)}, (0, 0, True)),
        ({"cache_creation_input_tokens": 0, "cache_creation": split(2, 0)}, (0, 0, False)),
    ],
)
def test_the_total_of_cache_writes_is_right_and_its_split_follows(usage, expected):
    assert cache_writes(usage) == expected


def test_a_guessed_split_is_said_to_be_estimated_only_where_the_rest_is_final():
    usage = {"cache_creation_input_tokens": 9, "cache_creation": split(2, 3)}
    assert [reading_of(usage, status).usage_status for status in ("final", "partial")] == [
        "estimated",
        "partial",
    ]


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
    assert reading_of(usage, "final").tokens == TokenCounts(output_tokens=3)


def test_the_largest_count_counts():
    assert reading_of({"input_tokens": COUNT_MAX}, "final").tokens == TokenCounts(input_tokens=COUNT_MAX)


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
    assert reading_of(usage, "final") == Reading(
        usage_status="final",
        tokens=TokenCounts(input_tokens=1),
        usage=msgspec.Raw(msgspec.json.encode(usage)),
    )


def test_a_usage_object_beyond_its_limit_is_counted_and_not_kept():
    usage = {"input_tokens": 1, "padding": "x" * USAGE_JSON_BYTES_MAX}
    assert reading_of(usage, "final") == Reading(usage_status="estimated", tokens=TokenCounts(input_tokens=1))


def test_names_are_cut_at_their_limit():
    reading = reading_of({"input_tokens": 1, "speed": "x" * 10_000}, "final")
    assert reading.speed == "x" * TEXT_CHARS_MAX


def test_a_usage_object_nested_beyond_the_stack_is_counted_and_not_kept():
    nested = []
    for _ in range(5000):
        nested = [nested]
    usage = {"input_tokens": 1, "deep": nested}
    assert reading_of(usage, "final") == Reading(usage_status="estimated", tokens=TokenCounts(input_tokens=1))
