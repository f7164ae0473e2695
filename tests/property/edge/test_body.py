"""Whatever JSON a client writes, cutting `litellm_metadata` out of it changes nothing else."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from services.edge.body import METADATA_KEY, read_body

white = st.text(alphabet=" \t\r\n", max_size=3)
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    [METADATA_KEY, '"', "\\", '\\"}', "{,}", "],[", ":", "\x00", "é", "\u2028", "😀"]
)
scalars = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(-1e300, 1e300) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
# The ways to write one key, of which a client's serialiser may use any.
KEYS = (
    '"litellm_metadata"',
    '"litellm\\u005fmetadata"',
    '"\\u006citellm_metadata"',
    '"litellm_metadat\\u0061"',
)


@st.composite
def objects(draw):
    """An object in pieces: its members as (is metadata, text), white space drawn around all of them."""
    others = draw(st.lists(st.tuples(texts.filter(lambda text: text != METADATA_KEY), values), max_size=5))
    ascii_only = draw(st.booleans())
    members = [
        (False, json.dumps(key, ensure_ascii=ascii_only), json.dumps(value, ensure_ascii=ascii_only))
        for key, value in others
    ]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(members)))
        members.insert(at, (True, draw(st.sampled_from(KEYS)), json.dumps(draw(values))))
    written = [
        (is_metadata, f"{key}{draw(white)}:{draw(white)}{value}", draw(white), draw(white))
        for is_metadata, key, value in members
    ]
    return draw(white), written, draw(white)


def text_of(before, members, after):
    inside = ",".join(lead + member + trail for _, member, lead, trail in members)
    return f"{before}{{{inside}}}{after}".encode()


@given(objects())
@settings(max_examples=500, deadline=None)
def test_the_member_goes_and_every_other_member_stays_as_it_was_written(pieces):
    before, members, after = pieces
    body = text_of(before, members, after)
    _, left = read_body(body)
    kept = [member for is_metadata, member, _, _ in members if not is_metadata]

    if len(kept) == len(members):
        assert left == body
        return
    expected = json.loads(body)
    del expected[METADATA_KEY]
    assert json.loads(left) == expected
    assert list(json.loads(left)) == list(expected)
    assert len(left) < len(body)
    # What is left is the members as they were written, with nothing but white space and commas between them.
    at = left.index(b"{") + 1
    assert left[: at - 1] == before.encode()
    assert left.endswith(b"}" + after.encode())
    for number, member in enumerate(kept):
        found = left.index(member.encode(), at)
        assert left[at:found].strip(b" \t\r\n") == (b"," if number else b"")
        at = found + len(member.encode())
    assert left[at:].strip(b" \t\r\n") == b"}"


@given(objects())
@settings(max_examples=200, deadline=None)
def test_what_was_cut_is_what_the_meter_reads(pieces):
    body = text_of(*pieces)
    given_last = json.loads(body).get(METADATA_KEY)
    expected = given_last if isinstance(given_last, dict) else {}
    assert dict(read_body(body)[0].litellm_metadata) == expected


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_and_what_is_no_json_is_not_touched(body):
    _, left = read_body(body)
    try:
        json.loads(body)
    except ValueError:
        assert left == body


@given(values.filter(lambda value: not isinstance(value, dict)))
@settings(max_examples=100, deadline=None)
def test_json_that_is_no_object_is_not_touched(value):
    body = json.dumps(value).encode()
    assert read_body(body)[1] == body
