"""To whom a request is booked: what goes before what, and how much of it is kept."""

import pytest

from schemas.attribution import Attribution
from services.edge.attribution import METADATA_KEYS_MAX, TAGS_MAX, TEXT_CHARS_MAX, attribute
from services.edge.body import BodyView


def booked(headers=(), user_id="", **given):
    return attribute("vk", list(headers), BodyView(user_id=user_id, litellm_metadata=given))


def test_a_request_that_says_nothing_is_booked_to_its_key_alone():
    assert booked() == Attribution(virtual_key_id="vk")


def test_everything_that_can_be_said_is_booked():
    headers = [
        (b"x-litellm-customer-id", b"customer"),
        (b"x-claude-code-session-id", b"session"),
        (b"x-litellm-tags", b"a, b,,a"),
    ]
    assert booked(
        headers, "someone", tags=["b", "c", 7], user="other", session_id="s", job="nightly", n=3
    ) == Attribution(
        virtual_key_id="vk",
        end_user_id="customer",
        session_id="session",
        tags=("a", "b", "c", "7"),
        metadata={"user": "other", "session_id": "s", "job": "nightly", "n": "3"},
    )


@pytest.mark.parametrize(
    ("headers", "given", "user_id", "expected"),
    [
        (
            ["x-litellm-end-user-id", "x-litellm-customer-id"],
            {"user": "body"},
            "metadata",
            "x-litellm-customer-id",
        ),
        (["x-litellm-end-user-id"], {"user": "body"}, "metadata", "x-litellm-end-user-id"),
        ([], {"user": "body"}, "metadata", "body"),
        ([], {"user": ""}, "metadata", "metadata"),
        ([], {"user": {"id": 1}}, "metadata", "metadata"),
        ([], {"user": 42}, "metadata", "42"),
    ],
)
def test_the_end_user_is_the_first_of_headers_litellm_metadata_and_user_id(headers, given, user_id, expected):
    named = [(name.encode(), name.encode()) for name in headers]
    assert booked(named, user_id, **given).end_user_id == expected


@pytest.mark.parametrize(
    ("headers", "given", "expected"),
    [
        (
            ["x-litellm-trace-id", "x-litellm-session-id", "x-claude-code-session-id"],
            {},
            "x-claude-code-session-id",
        ),
        (["x-litellm-trace-id", "x-litellm-session-id"], {"session_id": "s"}, "x-litellm-session-id"),
        (["x-litellm-trace-id"], {"session_id": "s"}, "x-litellm-trace-id"),
        ([], {"trace_id": "t", "session_id": "s"}, "s"),
        ([], {"trace_id": "t"}, "t"),
    ],
)
def test_the_session_is_the_first_of_headers_session_id_and_trace_id(headers, given, expected):
    named = [(name.encode(), name.encode()) for name in headers]
    assert booked(named, **given).session_id == expected


def test_what_was_not_chosen_for_a_column_stays_in_the_metadata():
    headers = [(b"x-litellm-end-user-id", "José".encode())]
    assert booked(headers, user="other", session_id="s", trace_id="t") == Attribution(
        virtual_key_id="vk",
        end_user_id="José",
        session_id="s",
        metadata={"user": "other", "trace_id": "t"},
    )


def test_tags_that_are_no_list_and_tags_that_are_no_scalars_are_left_out():
    assert booked(tags="a,b") == Attribution(virtual_key_id="vk")
    assert booked(tags=[["a"], {"b": 1}, None, True, "", " c "]).tags == ("true", "c")


def test_metadata_keeps_scalars_as_text_and_leaves_out_what_has_no_place_in_a_map():
    assert booked(a="x", b=1, c=1.5, d=True, e=False, f=None, g=[1], h={"x": 1}, i="").metadata == {
        "a": "x",
        "b": "1",
        "c": "1.5",
        "d": "true",
        "e": "false",
    }


def test_tags_and_metadata_are_cut_at_their_limits():
    tags = [f"t{number}" for number in range(TAGS_MAX + 5)]
    metadata = {f"k{number}": number for number in range(METADATA_KEYS_MAX + 5)}
    assert booked(tags=tags, **metadata) == Attribution(
        virtual_key_id="vk",
        tags=tuple(tags[:TAGS_MAX]),
        metadata={f"k{number}": str(number) for number in range(METADATA_KEYS_MAX)},
    )


def test_every_text_is_cut_at_its_limit():
    long, kept = "é" * (TEXT_CHARS_MAX + 1), "é" * TEXT_CHARS_MAX
    assert booked(user=long, session_id=long, tags=[long], **{long: long}) == Attribution(
        virtual_key_id="vk", end_user_id=kept, session_id=kept, tags=(kept,), metadata={kept: kept}
    )


def test_a_number_of_thousands_of_digits_is_cut_like_any_text():
    assert booked(n=10**4000).metadata == {"n": "1" + "0" * (TEXT_CHARS_MAX - 1)}
