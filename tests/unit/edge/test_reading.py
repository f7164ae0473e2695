"""What the parts of an answer come to, whole or broken off."""

import msgspec
import pytest

from schemas.usage_rules import COUNT_MAX, FIVE_MINUTES, Reading, reading_of
from services.edge.tap.reading import output_floor, overwritten, unfinished

START = reading_of({"input_tokens": 10, "output_tokens": 3, "cache_creation_input_tokens": 5}, "none")


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


def test_an_answer_without_output_is_partial_and_keeps_what_its_start_said():
    assert unfinished(START, 0) == msgspec.structs.replace(START, usage_status="partial")


@pytest.mark.parametrize(("floor", "expected"), [(1, 3), (3, 3), (40, 40), (COUNT_MAX + 7, COUNT_MAX)])
def test_output_that_was_seen_sets_a_floor_that_is_said_to_be_estimated(floor, expected):
    assert unfinished(START, floor) == msgspec.structs.replace(
        START,
        usage_status="estimated",
        tokens=msgspec.structs.replace(START.tokens, output_tokens=expected),
        estimated_dimensions=("output_tokens",),
    )


def test_a_floor_keeps_what_else_was_estimated():
    split = {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3}
    writes_of_both = {"cache_creation_input_tokens": 9, "cache_creation": split}
    reading = unfinished(reading_of(writes_of_both, "both"), 7)
    assert reading.estimated_dimensions == (FIVE_MINUTES, "output_tokens")


def test_without_usage_there_is_no_floor():
    assert unfinished(Reading(), 7) == Reading()


@pytest.mark.parametrize(
    ("characters", "thinking_tokens", "expected"),
    [(0, 0, 0), (1, 0, 1), (4, 0, 1), (5, 0, 2), (400, 0, 100), (0, 50, 50), (401, 50, 151)],
)
def test_a_floor_is_four_characters_a_token_and_the_thinking_that_upstream_estimates(
    characters, thinking_tokens, expected
):
    assert output_floor(characters, thinking_tokens) == expected
