"""Who is calling: which of several credentials counts, whom it is booked to, and what of it goes upstream."""

import hashlib
import hmac

import pytest

from services.edge.headers import gateway_credential, headers_up, own_credential
from services.edge.identity import (
    SECRET_CHARS_MIN,
    Caller,
    Credentials,
    identify,
    own_key_id,
    read_credentials,
    secrets_of,
)

MASTER = "sk-master-1234"


def caller_of(*headers, master_key="", hash_secret="", gateway_has_credential=True):
    return identify(
        read_credentials(headers),
        master_key=master_key,
        hash_secret=hash_secret,
        gateway_has_credential=gateway_has_credential,
    )


def test_each_credential_is_read_from_its_own_header():
    headers = [
        (b"x-api-key", b"key"),
        (b"authorization", b"Bearer token"),
        (b"x-litellm-api-key", b"Bearer gateway"),
    ]
    assert read_credentials(headers) == Credentials("gateway", "token", "key")


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (("x-litellm-api-key", "authorization", "x-api-key"), "litellm"),
        (("authorization", "x-api-key"), "bearer"),
        (("x-litellm-api-key", "x-api-key"), "litellm"),
        (("x-api-key",), "api"),
        ((), ""),
    ],
)
def test_the_gateways_key_is_the_first_of_litellms_header_authorization_and_x_api_key(present, expected):
    values = {"x-litellm-api-key": b"litellm", "authorization": b"Bearer bearer", "x-api-key": b"api"}
    headers = [(name.encode(), values[name]) for name in reversed(present)]
    assert read_credentials(headers).gateway == expected


@pytest.mark.parametrize("value", [b"Bearer k", b"bearer k", b"BEARER k", b"bEaReR   k  "])
def test_bearer_is_read_in_any_letter_case(value):
    assert read_credentials([(b"authorization", value)]) == Credentials("", "k", "")


@pytest.mark.parametrize("value", [b"Basic dXNlcg==", b"k", b"Bearer", b"Bearer ", b""])
def test_an_authorization_of_another_scheme_or_without_a_value_is_no_credential(value):
    assert read_credentials([(b"authorization", value)]) == Credentials("", "", "")


def test_of_a_credential_header_that_is_there_twice_the_first_counts():
    headers = [(b"x-api-key", b"first"), (b"x-api-key", b"second")]
    assert read_credentials(headers) == Credentials("", "", "first")


@pytest.mark.parametrize(
    "header",
    [
        (b"x-litellm-api-key", MASTER.encode()),
        (b"x-litellm-api-key", b"Bearer " + MASTER.encode()),
        (b"authorization", b"bearer " + MASTER.encode()),
        (b"x-api-key", MASTER.encode()),
    ],
)
def test_the_master_key_is_let_in_from_every_header(header):
    assert caller_of(header, master_key=MASTER) == Caller("master", False)


def test_with_a_master_key_another_key_is_unknown_and_none_is_none():
    assert caller_of((b"x-api-key", b"sk-other"), master_key=MASTER) == "unknown_credential"
    assert caller_of(master_key=MASTER) == "no_credential"


def test_a_wrong_key_in_the_header_that_counts_is_not_saved_by_a_right_one_behind_it():
    headers = [(b"authorization", b"Bearer sk-other"), (b"x-api-key", MASTER.encode())]
    assert caller_of(*headers, master_key=MASTER) == "unknown_credential"


def test_a_master_key_beyond_ascii_is_compared_byte_by_byte():
    assert caller_of((b"x-api-key", "sk-schlüssel".encode()), master_key="sk-schlüssel") == Caller(
        "master", False
    )
    assert caller_of((b"x-api-key", b"sk-\xff"), master_key="sk-schlüssel") == "unknown_credential"


def test_without_a_master_key_a_gateway_with_a_credential_lets_anybody_in():
    assert caller_of() == Caller("anonymous", False)
    assert caller_of((b"x-api-key", b"anything")) == Caller("anonymous", False)


def test_an_own_key_is_booked_under_its_keyed_hash():
    digest = hmac.new(b"pepper", b"sk-ant-1", hashlib.sha256).hexdigest()[:16]
    caller = caller_of((b"x-api-key", b"sk-ant-1"), hash_secret="pepper", gateway_has_credential=False)
    assert caller == Caller(f"own:{digest}", True)


def test_an_own_key_is_booked_the_same_from_either_header_and_differently_under_another_secret():
    booked = own_key_id("sk-ant-1", "pepper")
    bearer = caller_of(
        (b"authorization", b"BEARER sk-ant-1"), hash_secret="pepper", gateway_has_credential=False
    )
    assert bearer == Caller(booked, True)
    assert len({booked, own_key_id("sk-ant-1", ""), own_key_id("sk-ant-2", "pepper")}) == 3


def test_without_any_credential_for_anthropic_nobody_is_let_in():
    assert caller_of(gateway_has_credential=False) == "no_credential"
    only_master = caller_of((b"x-api-key", MASTER.encode()), master_key=MASTER, gateway_has_credential=False)
    assert only_master == "no_upstream_credential"


def test_behind_the_master_key_the_callers_own_key_is_what_is_booked():
    headers = [(b"authorization", b"Bearer " + MASTER.encode()), (b"x-api-key", b"sk-ant-1")]
    caller = caller_of(*headers, master_key=MASTER, hash_secret="s", gateway_has_credential=False)
    assert caller == Caller(own_key_id("sk-ant-1", "s"), True)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer " + MASTER.encode()), (b"x-api-key", b"sk-ant-1")],
        [(b"x-api-key", b"sk-ant-1"), (b"authorization", b"bearer  " + MASTER.encode())],
        [(b"x-litellm-api-key", MASTER.encode()), (b"x-api-key", b"sk-ant-1")],
        [(b"x-api-key", b"sk-ant-1"), (b"x-api-key", MASTER.encode())],
    ],
)
def test_the_master_key_never_goes_upstream(headers):
    assert headers_up(headers, own_credential(headers, MASTER), None) == [(b"x-api-key", b"sk-ant-1")]


def test_own_credentials_go_up_as_they_came_where_there_is_no_master_key():
    headers = [(b"authorization", b"Bearer t"), (b"accept", b"*/*"), (b"x-api-key", b"k")]
    assert own_credential(headers, "") == [(b"authorization", b"Bearer t"), (b"x-api-key", b"k")]


def test_the_gateways_credential_takes_the_callers_place():
    headers = [(b"x-api-key", b"theirs"), (b"authorization", b"Bearer theirs"), (b"accept", b"*/*")]
    with_key = headers_up(headers, gateway_credential("ours", "token"), None)
    with_token = headers_up(headers, gateway_credential("", "token"), None)
    assert with_key == [(b"accept", b"*/*"), (b"x-api-key", b"ours")]
    assert with_token == [(b"accept", b"*/*"), (b"authorization", b"Bearer token")]


def test_a_master_key_beyond_ascii_is_not_booked_as_a_key_of_the_callers_own():
    headers = [(b"authorization", "Bearer sk-schlüssel".encode()), (b"x-api-key", b"sk-ant-1")]
    caller = caller_of(*headers, master_key="sk-schlüssel", gateway_has_credential=False)
    assert caller == Caller(own_key_id("sk-ant-1", ""), True)


KEY = "sk-caller-0123456789"


@pytest.mark.parametrize(
    "leak",
    [
        (b"api-key", KEY.encode()),
        (b"x-goog-api-key", KEY.encode()),
        (b"anthropic-key", b"Bearer " + KEY.encode()),
        (b"x-other", b"token " + KEY.encode()),
    ],
)
@pytest.mark.parametrize(
    "header", [(b"x-litellm-api-key", KEY), (b"authorization", f"Bearer {KEY}"), (b"x-api-key", KEY)]
)
def test_a_key_that_was_shown_to_the_gateway_goes_up_under_no_name(header, leak):
    headers = [(header[0], header[1].encode()), leak, (b"accept", b"*/*")]
    secrets = secrets_of(read_credentials(headers), Caller("master", False), "")
    assert headers_up(headers, [], None, secrets) == [(b"accept", b"*/*")]


def test_the_master_key_goes_up_under_no_name_in_own_key_mode_either():
    headers = [(b"api-key", MASTER.encode()), (b"x-api-key", KEY.encode()), (b"x-copy", KEY.encode())]
    secrets = secrets_of(read_credentials(headers), Caller("own:1", True), MASTER)
    assert headers_up(headers, own_credential(headers, MASTER), None, secrets) == [
        (b"x-copy", KEY.encode()),
        (b"x-api-key", KEY.encode()),
    ]


def test_a_word_that_was_sent_in_place_of_a_key_does_not_silence_other_headers():
    word = "x" * (SECRET_CHARS_MIN - 1)
    headers = [(b"x-api-key", word.encode()), (b"anthropic-beta", word.encode())]
    secrets = secrets_of(read_credentials(headers), Caller("anonymous", False), "")
    assert headers_up(headers, [], None, secrets) == [(b"anthropic-beta", word.encode())]


def test_a_subscription_token_of_the_callers_own_goes_up_unchanged():
    headers = [(b"authorization", b"Bearer sk-ant-oat01-abc"), (b"anthropic-beta", b"oauth-2025-04-20")]
    caller = caller_of(*headers, gateway_has_credential=False)
    up = headers_up(
        headers, own_credential(headers, ""), None, secrets_of(read_credentials(headers), caller, "")
    )
    assert caller == Caller(own_key_id("sk-ant-oat01-abc", ""), True)
    assert sorted(up) == sorted(headers)


def test_both_headers_of_a_key_helper_go_up_in_own_key_mode_and_neither_otherwise():
    both = [(b"authorization", b"Bearer " + KEY.encode()), (b"x-api-key", KEY.encode())]
    assert headers_up(both, own_credential(both, ""), None) == both
    assert headers_up(both, gateway_credential("ours", ""), None) == [(b"x-api-key", b"ours")]
    assert caller_of(*both, master_key=KEY) == Caller("master", False)
