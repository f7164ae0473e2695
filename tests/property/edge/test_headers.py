"""Whatever headers come, those that pass keep their order, number and bytes, and nothing is invented."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.edge.headers import (
    CREDENTIALS,
    HOP_BY_HOP,
    NOT_DOWN,
    NOT_UP,
    NOT_UP_PREFIXES,
    headers_down,
    headers_up,
)

TOKEN = "abcdefghijklmnopqrstuvwxyz0123456789-_ABC"
SPECIAL = [name.decode() for name in sorted(NOT_UP | NOT_DOWN | CREDENTIALS)]
names = st.one_of(
    st.text(alphabet=TOKEN, min_size=1, max_size=12),
    st.sampled_from([*SPECIAL, "x-forwarded-for", "x-litellm-tags", "content-length", "vary", "X-Api-Key"]),
    st.sampled_from(SPECIAL).map(str.title),
).map(str.encode)
tokens = st.lists(st.text(alphabet=TOKEN, min_size=1, max_size=6), max_size=3)
values = st.one_of(
    st.binary(max_size=12).map(lambda value: value.translate(None, b"\r\n\x00")),
    tokens.map(lambda each: ", ".join(each).encode()),
)
lists = st.lists(st.tuples(names, values), max_size=15)
CREDENTIAL = [(b"x-api-key", b"gateway")]
ADDED = [(b"x-tollhouse-request-id", b"id"), (b"x-litellm-call-id", b"id")]


def named(headers):
    """What connection headers name, read here a second time."""
    lines = [value.decode("latin-1") for name, value in headers if name.lower() == b"connection"]
    return {
        token.strip(" \t\r\n\x0b\x0c").lower().encode("latin-1")
        for line in lines
        for token in line.split(",")
    }


@given(lists)
@settings(max_examples=300, deadline=None)
def test_what_goes_up_is_what_came_in_order_less_what_is_named(headers):
    gone = NOT_UP | named(headers)
    expected = [
        (name, value)
        for name, value in headers
        if name.lower() not in gone and not name.lower().startswith(NOT_UP_PREFIXES)
    ]
    assert headers_up(headers, CREDENTIAL, None) == expected + CREDENTIAL


@given(lists)
@settings(max_examples=300, deadline=None)
def test_what_comes_down_is_what_came_in_order_less_what_is_named(headers):
    gone = NOT_DOWN | named(headers)
    expected = [(name, value) for name, value in headers if name.lower() not in gone]
    assert headers_down(headers, "id") == expected + ADDED


@given(lists, st.integers(0, 10**9))
@settings(max_examples=200, deadline=None)
def test_only_the_value_of_content_length_ever_changes(headers, length):
    changed = headers_up(headers, [], length)
    unchanged = headers_up(headers, [], None)
    assert [name for name, _ in changed] == [name for name, _ in unchanged]
    for (name, now), (_, was) in zip(changed, unchanged, strict=True):
        assert now == (b"%d" % length if name.lower() == b"content-length" else was)


@given(lists)
@settings(max_examples=200, deadline=None)
def test_no_credential_cookie_or_hop_by_hop_header_of_the_caller_goes_up(headers):
    went = {name.lower() for name, _ in headers_up(headers, [], None)}
    assert went.isdisjoint(CREDENTIALS | HOP_BY_HOP | {b"cookie", b"host"})
