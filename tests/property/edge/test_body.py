"""Whatever JSON a client writes, `litellm_metadata` and the name of a model are all that changes in it."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from services.edge.body import read_body

METADATA_KEY = "litellm_metadata"

white = st.text(alphabet=" \t\r\n", max_size=3)
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    [
        METADATA_KEY,
        "model",
        "messages",
        "tools",
        '"',
        "\\",
        '\\"}',
        "{,}",
        "],[",
        ":",
        "\x00",
        "é",
        "\u2028",
        "😀",
    ]
)
scalars = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(-1e300, 1e300) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@st.composite
def keys(draw, name):
    """One of the ways to write a key: each letter may be an escape, in either case of its digits."""
    written = [draw(st.sampled_from((each, f"\\u{ord(each):04x}", f"\\u{ord(each):04X}"))) for each in name]
    return f'"{"".join(written)}"'


# A serialiser writes the plain one; anybody else may write any.
MODEL_KEYS = st.just('"model"') | keys("model")
METADATA_KEYS = st.just('"litellm_metadata"') | keys(METADATA_KEY)


@st.composite
def objects(draw):
    """An object in pieces: its members as (is metadata, text), white space drawn around all of them."""
    others = draw(
        st.lists(
            st.tuples(texts.filter(lambda text: text not in (METADATA_KEY, "model")), values), max_size=5
        )
    )
    ascii_only = draw(st.booleans())
    members = [
        (False, json.dumps(key, ensure_ascii=ascii_only), json.dumps(value, ensure_ascii=ascii_only))
        for key, value in others
    ]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(members)))
        members.insert(at, (True, draw(METADATA_KEYS), json.dumps(draw(values))))
    written = [
        (is_metadata, f"{key}{draw(white)}:{draw(white)}{value}", draw(white), draw(white))
        for is_metadata, key, value in members
    ]
    return draw(white), written, draw(white)


def text_of(before, members, after):
    inside = ",".join(lead + member + trail for _, member, lead, trail in members)
    return f"{before}{{{inside}}}{after}".encode()


@given(objects())
@settings(max_examples=300, deadline=None)
def test_the_member_goes_and_every_other_member_stays_as_it_was_written(pieces):
    before, members, after = pieces
    body = text_of(before, members, after)
    left = read_body(body)[1]
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


def members_of(text):
    """Read the top level of a valid JSON object character by character: (decoded name, start, end)."""
    found, depth, at, start, name = [], 0, 0, None, None
    while at < len(text):
        if text[at] == '"':
            end = at + 1
            while text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            if depth == 1 and start is None:
                start, name = at, json.loads(text[at : end + 1])
            at = end + 1
            continue
        depth += (text[at] in "{[") - (text[at] in "}]")
        if start is not None and ((depth == 1 and text[at] == ",") or depth == 0):
            found.append((name, start, start + len(text[start:at].rstrip(" \t\r\n"))))
            start = None
        at += 1
    return found


def cut_by_hand(text):
    """Cut one member after another, each with the comma behind it, or else the one before it."""
    while True:
        members = members_of(text)
        at = next((index for index, member in enumerate(members) if member[0] == METADATA_KEY), None)
        if at is None:
            return text
        _, start, end = members[at]
        is_followed = any(name != METADATA_KEY for name, _, _ in members[at + 1 :])
        if is_followed:
            end = members[at + 1][1]
        elif at:
            start = members[at - 1][2]
        elif at + 1 < len(members):
            end = members[at + 1][1]
        text = text[:start] + text[end:]


@given(objects())
@settings(max_examples=300, deadline=None)
def test_the_cut_is_what_a_reader_of_single_characters_would_cut(pieces):
    text = text_of(*pieces).decode()
    assert read_body(text.encode())[1].decode() == cut_by_hand(text)


@given(objects(), st.lists(st.tuples(MODEL_KEYS, values), max_size=3), st.randoms())
@settings(max_examples=300, deadline=None)
def test_only_a_model_that_stands_twice_at_the_top_is_a_fault(pieces, models, random):
    before, members, after = pieces
    for key, value in models:
        member = (False, f"{key}:{json.dumps(value)}", "", " ")
        members.insert(random.randint(0, len(members)), member)
    view, left = read_body(text_of(before, members, after))
    assert view.fault == ("model_twice" if len(models) > 1 else "")
    if len(models) == 1:
        assert view.model == (models[0][1] if isinstance(models[0][1], str) else "")
        assert json.loads(left)["model"] == models[0][1]


ALIASES = {
    "fast": "claude-haiku-4-5",
    'q"uote': "back\\slash\x00",
    "😀": "é\u2028",
    "claude-haiku-4-5": "fast",
    "same": "same",
}


@st.composite
def written(draw, text):
    """One of the ways to write a text in JSON."""
    plain = json.dumps(text, ensure_ascii=draw(st.booleans()))
    return draw(st.just(plain) | keys(text)) if text.isalpha() and text.isascii() else plain


@given(objects(), MODEL_KEYS, st.data())
@settings(max_examples=300, deadline=None)
def test_for_an_alias_the_bytes_of_its_name_alone_give_way(pieces, key, data):
    before, members, after = pieces
    asked = data.draw(st.sampled_from(sorted(ALIASES)) | texts)
    head, value = f"{key}{data.draw(white)}:{data.draw(white)}", data.draw(written(asked))
    at = data.draw(st.integers(0, len(members)))

    def body_with(model):
        member = (False, head + model, data_lead, data_trail)
        return text_of(before, [*members[:at], member, *members[at:]], after)

    data_lead, data_trail = data.draw(white), data.draw(white)
    body = body_with(value)
    view, up = read_body(body, ALIASES)
    model = ALIASES.get(asked, asked)
    assert view.model == model
    assert view == read_body(body)[0]._replace(model=model)
    expected = {**json.loads(body), "model": model}
    expected.pop(METADATA_KEY, None)
    assert json.loads(up) == expected
    # Cut alone, the same body has the same bytes but for the name.
    renamed = value if model == asked else json.dumps(model, ensure_ascii=False)
    assert up == read_body(body_with(renamed))[1]


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
