"""Which headers pass in each direction; what passes keeps its order, its number and its bytes."""

import pytest

from services.edge.headers import first, headers_down, headers_up

NAMED = [(b"x-tollhouse-request-id", b"id"), (b"x-litellm-call-id", b"id")]


def test_ordinary_headers_go_up_in_order_and_as_often_as_they_came():
    headers = [
        (b"user-agent", b"Anthropic/Python 2.12.0"),
        (b"anthropic-beta", b"a"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"anthropic-beta", b"b"),
        (b"x-unknown", b""),
        (b"anthropic-version", b"2026-10-21"),
        (b"traceparent", b"00-1-2-01"),
        (b"x-unknown", "ü".encode()),
    ]
    assert headers_up(headers, [], None) == headers


def test_nothing_is_invented_in_either_direction():
    assert headers_up([], [], 12) == []
    assert headers_down([], "id") == NAMED


@pytest.mark.parametrize(
    "name",
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ],
)
def test_hop_by_hop_headers_pass_in_neither_direction(name):
    headers = [(b"a", b"1"), (name.encode(), b"close"), (name.title().encode(), b"close"), (b"b", b"2")]
    assert headers_up(headers, [], None) == [(b"a", b"1"), (b"b", b"2")]
    assert headers_down(headers, "id") == [(b"a", b"1"), (b"b", b"2"), *NAMED]


def test_what_a_connection_header_names_passes_in_neither_direction():
    headers = [
        (b"x-one", b"1"),
        (b"connection", b"close, X-One"),
        (b"Connection", b" x-two ,,"),
        (b"X-Two", b"2"),
        (b"x-three", b"3"),
    ]
    assert headers_up(headers, [], None) == [(b"x-three", b"3")]
    assert headers_down(headers, "id") == [(b"x-three", b"3"), *NAMED]


@pytest.mark.parametrize(
    "name",
    [
        "host",
        "expect",
        "cookie",
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-tollhouse-anything",
        "x-litellm-tags",
        "x-litellm-api-key",
        "x-api-key",
        "authorization",
    ],
)
def test_what_is_for_the_gateway_or_its_network_does_not_go_up(name):
    assert headers_up([(name.encode(), b"x"), (b"a", b"1"), (name.upper().encode(), b"x")], [], None) == [
        (b"a", b"1")
    ]


@pytest.mark.parametrize(
    "name", [b"x-forwarded", b"x-tollhouse", b"x-litellm", b"cookie2", b"x-stainless-host"]
)
def test_a_name_that_only_begins_alike_goes_up(name):
    assert headers_up([(name, b"x")], [], None) == [(name, b"x")]


def test_content_length_follows_the_body_that_goes_up_in_its_place():
    headers = [(b"a", b"1"), (b"content-length", b"100"), (b"b", b"2")]
    assert headers_up(headers, [], 80) == [(b"a", b"1"), (b"content-length", b"80"), (b"b", b"2")]
    assert headers_up(headers, [], None) == headers


def test_the_credential_goes_up_last():
    up = headers_up([(b"x-api-key", b"theirs"), (b"a", b"1")], [(b"x-api-key", b"ours")], None)
    assert up == [(b"a", b"1"), (b"x-api-key", b"ours")]


def test_cookies_and_alternative_services_do_not_come_down():
    headers = [
        (b"Set-Cookie", b"a=1"),
        (b"request-id", b"req_1"),
        (b"set-cookie", b"b=2"),
        (b"alt-svc", b'h3=":443"'),
        (b"Content-Encoding", b"gzip"),
    ]
    assert headers_down(headers, "id") == [(b"request-id", b"req_1"), (b"Content-Encoding", b"gzip"), *NAMED]


def test_ordinary_headers_come_down_in_order_case_and_number():
    headers = [
        (b"Content-Type", b"application/json"),
        (b"Vary", b"Origin"),
        (b"anthropic-organization-id", b"org"),
        (b"Vary", b"Accept-Encoding"),
        (b"content-length", b"12"),
        (b"date", b"Sun, 22 Nov 2026 12:00:00 GMT"),
        (b"server", b"cloudflare"),
    ]
    assert headers_down(headers, "id") == [*headers, *NAMED]


def test_first_gives_the_first_value_of_the_first_name_that_is_there():
    headers = [(b"b", b"1"), (b"a", b"\xff"), (b"a", b"3")]
    assert (first(headers, b"a", b"b"), first(headers, b"c", b"b"), first(headers, b"c")) == ("ÿ", "1", "")
