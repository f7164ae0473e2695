"""To whom a request is booked: what goes before what, and how much of it is kept."""

import pytest
from prometheus_client import REGISTRY

from schemas.attribution import Attribution
from services.edge.attribution import (
    METADATA_KEYS_MAX,
    TAGS_MAX,
    TEXT_CHARS_MAX,
    attribute,
    without_end_user,
)
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


JSON_USER_ID = '{"device_id":"d1","account_uuid":"a1","session_id":"s1"}'
OLDER_USER_ID = (
    "user_0a1b_account_11111111-2222-3333-4444-555555555555_session_66666666-7777-8888-9999-000000000000"
)


def test_claude_codes_user_id_is_split_and_its_account_is_the_end_user():
    assert booked(user_id=JSON_USER_ID) == Attribution(
        virtual_key_id="vk", end_user_id="a1", session_id="s1", device_id="d1", account_id="a1"
    )
    assert booked(user_id=OLDER_USER_ID) == Attribution(
        virtual_key_id="vk",
        end_user_id="11111111-2222-3333-4444-555555555555",
        session_id="66666666-7777-8888-9999-000000000000",
        device_id="0a1b",
        account_id="11111111-2222-3333-4444-555555555555",
    )


def test_without_an_account_the_device_is_the_end_user():
    assert booked(user_id='{"device_id":"d1","account_uuid":"","session_id":"s1"}') == Attribution(
        virtual_key_id="vk", end_user_id="d1", session_id="s1", device_id="d1"
    )


def test_what_was_named_on_purpose_goes_before_claude_codes_user_id():
    headers = [(b"x-claude-code-session-id", b"s0"), (b"x-litellm-customer-id", b"c0")]
    assert booked(headers, JSON_USER_ID) == Attribution(
        virtual_key_id="vk", end_user_id="c0", session_id="s0", device_id="d1", account_id="a1"
    )
    assert booked(user_id=JSON_USER_ID, user="u0", trace_id="t0") == Attribution(
        virtual_key_id="vk", end_user_id="u0", session_id="t0", device_id="d1", account_id="a1"
    )


def test_a_user_id_in_another_form_is_the_end_user_as_it_came():
    for user_id in ('{"id":1}', '{"device_id":5}', "{x", "user_x_account__session_", "José"):
        assert booked(user_id=user_id) == Attribution(virtual_key_id="vk", end_user_id=user_id)


def test_the_client_and_its_subagent_are_booked():
    headers = [
        (b"user-agent", b"claude-cli/2.1.330 (external, sdk-cli)"),
        (b"x-claude-code-agent-id", b"agent-1"),
        (b"x-claude-code-parent-agent-id", b"agent-0"),
    ]
    assert booked(headers) == Attribution(
        virtual_key_id="vk",
        client_app="claude-cli",
        client_version="2.1.330",
        agent_id="agent-1",
        parent_agent_id="agent-0",
    )


def cut_count(what):
    return REGISTRY.get_sample_value("edge_metadata_cut_total", {"what": what}) or 0.0


def test_scalars_meant_for_litellms_spend_log_are_metadata_too_and_its_own_keys_are_not():
    before = cut_count("metadata")
    given = {
        "job": "nightly",
        "user_api_key_team_id": "forged",
        "spend_logs_metadata": {"job": "inner", "n": 1, "user_api_key_alias": "forged", "list": []},
    }
    assert booked(**given) == Attribution(virtual_key_id="vk", metadata={"job": "nightly", "n": "1"})
    assert cut_count("metadata") - before == 3


def test_what_has_nothing_to_say_is_not_counted_as_cut():
    before = cut_count("metadata")
    booked(a=None, b="", spend_logs_metadata={"c": None})
    assert cut_count("metadata") == before


def test_each_tag_and_each_member_beyond_the_limits_is_counted():
    tags, metadata = cut_count("tags"), cut_count("metadata")
    booked(tags=list(range(TAGS_MAX + 3)), **{f"k{each}": each for each in range(METADATA_KEYS_MAX + 2)})
    assert (cut_count("tags") - tags, cut_count("metadata") - metadata) == (3, 2)


def test_metadata_that_was_too_long_to_read_is_counted():
    before = cut_count("metadata")
    attribute("vk", [], BodyView(is_metadata_too_long=True))
    assert cut_count("metadata") - before == 1


def test_tags_of_several_headers_are_one_list():
    headers = [(b"x-litellm-tags", b"a,b"), (b"x-litellm-tags", b"c")]
    assert booked(headers).tags == ("a", "b", "c")


def test_without_end_users_nothing_is_left_of_who_it_was():
    """Not even where the header went before the body, and the body's user would be free metadata."""
    header = (b"x-litellm-end-user-id", b"ada")
    whole = booked([header], JSON_USER_ID, user="grace", tags=["t"], cost_centre="7")
    assert (whole.end_user_id, whole.metadata["user"]) == ("ada", "grace")
    assert whole.device_id and whole.account_id
    assert without_end_user(whole) == Attribution(
        virtual_key_id=whole.virtual_key_id,
        session_id=whole.session_id,
        tags=("t",),
        metadata={"cost_centre": "7"},
    )
