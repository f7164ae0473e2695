"""However JSON is written, a rewritten answer says the same but for `results_url`, and never raises."""

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from services.edge.results_url import CannotRewrite, Links, rewritten

UPSTREAM, HERE = "https://api.anthropic.com", "http://gateway:4000/anthropic"
LINKS = Links(UPSTREAM, HERE)
WITHHELD = object()

keys = st.one_of(
    st.sampled_from(["results_url", "data", "id", "result_url", 'results_url":']), st.text(max_size=5)
)
addresses = st.from_regex(r"/[a-zA-Z0-9_/?=&.%-]{0,20}", fullmatch=True).map(lambda path: UPSTREAM + path)
scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner | addresses, max_size=5),
    max_leaves=12,
)
spaces = st.text(st.sampled_from(" \t\r\n"), max_size=3)


def pointed_here(value, key=""):
    """The document that is expected; CannotRewrite for one that must not pass."""
    if isinstance(value, dict):
        return {name: pointed_here(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [pointed_here(each) for each in value]
    if key == "results_url" and isinstance(value, str):
        if value.startswith("/") and not value.startswith(("//", "/\\")):
            return value
        if not value.startswith(UPSTREAM + "/"):
            raise CannotRewrite
        return HERE + value.removeprefix(UPSTREAM)
    return value


@st.composite
def written(draw):
    """A document, and one of the many ways to write it."""
    document = draw(documents)
    text = json.dumps(document, ensure_ascii=draw(st.booleans()))
    space, chance = draw(spaces), draw(st.randoms(use_true_random=False))

    def spelled(match):
        token = match[0]
        if token[0] != '"':
            return space + token + space
        return re.sub(
            r"\\.|[a-z/_]",
            lambda found: _escaped(found[0]) if chance.random() < 0.2 else found[0],
            token,
        )

    return document, re.sub(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]', spelled, text).encode("utf-8", "surrogatepass")


def _escaped(character):
    if len(character) > 1:
        return character
    return "\\/" if character == "/" else f"\\u{ord(character):04x}"


@given(written())
@settings(max_examples=200, deadline=None)
def test_only_what_is_called_results_url_changes(case):
    document, body = case
    try:
        expected = pointed_here(document)
    except CannotRewrite:
        expected = WITHHELD
    try:
        actual = rewritten(body, LINKS)
    except CannotRewrite:
        return  # it may refuse more than it must, and tests of its own say what
    assert json.loads(actual) == expected
    if expected == document:
        assert actual == body


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: b'{"results_url":"%s"}' % text.encode())
)
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_it_fail_in_another_way_or_lead_elsewhere(body):
    try:
        actual = rewritten(body, LINKS)
    except CannotRewrite:
        return
    document = json.loads(actual) if actual else {}
    value = document.get("results_url") if isinstance(document, dict) else None
    assert not isinstance(value, str) or value.startswith((HERE + "/", "/"))
