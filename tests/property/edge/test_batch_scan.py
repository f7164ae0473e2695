"""However a create call's body is written and cut into chunks, it is read as the json module reads it."""

import json
import random
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.edge.batches.scan import CannotTake, CreateScan

KEY = "litellm_metadata"
ALIASES = {"fast": "claude-haiku-4-5", "claude": 'q"uote\\\u00e9', "same": "same"}
NAMES = (KEY, "requests", "custom_id", "params", "model", "metadata", "a", 'q"uote', "\u00e9\\")
SPACES = ("", "", "", " ", "\n\t ")

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
)


class Pairs(list):
    """An object as it is written: its members in order, each as often as it stands there."""


def objects(values, names=NAMES):
    return st.lists(st.tuples(st.sampled_from(names), values), max_size=4).map(Pairs)


anything = st.recursive(scalars, lambda inner: objects(inner) | st.lists(inner, max_size=3), max_leaves=6)
params = objects(anything | st.sampled_from(sorted(ALIASES)), (KEY, "model", "messages", "metadata"))
items = objects(params | anything, ("custom_id", "params", "x")) | anything
bodies = objects(st.lists(items, max_size=4) | anything, (KEY, "requests", "z"))


def written(value, draw):
    """Write JSON with white space and escapes wherever they may stand."""

    def spaced(token):
        return draw.choice(SPACES) + token + draw.choice(SPACES)

    if isinstance(value, Pairs):
        members = (f"{spaced(string(name))}:{written(each, draw)}" for name, each in value)
        return spaced("{" + ",".join(members) + draw.choice(SPACES) + "}")
    if isinstance(value, list):
        return spaced("[" + ",".join(written(each, draw) for each in value) + draw.choice(SPACES) + "]")
    return spaced(string(value) if isinstance(value, str) else json.dumps(value))


def string(text):
    return json.dumps(text, ensure_ascii=len(text) % 2 == 0).replace("_", "\\u005f" if len(text) % 3 else "_")


def read_as_json(body):
    """What the json module reads, strictly; None where it is no JSON."""

    def refused(_):
        raise ValueError("no JSON")

    try:
        return json.loads(body.decode(), object_pairs_hook=Pairs, parse_constant=refused)
    except (ValueError, RecursionError):
        return None


def model_of(value):
    return ALIASES.get(value, value) if isinstance(value, str) else value


def as_it_goes_up(document):
    """The document without metadata, and with models in the place of aliases."""

    def kept(pairs):
        return Pairs((name, value) for name, value in pairs if name != KEY)

    def params(pairs):
        return Pairs((name, model_of(each) if name == "model" else each) for name, each in kept(pairs))

    def item(value):
        if not isinstance(value, Pairs):
            return value
        return Pairs(
            (name, params(each) if name == "params" and isinstance(each, Pairs) else each)
            for name, each in value
        )

    return Pairs(
        (name, [item(each) for each in value] if name == "requests" and type(value) is list else value)
        for name, value in kept(document)
    )


def is_ambiguous(document):
    def twice(pairs, name):
        return sum(each == name for each, _ in pairs) > 1

    def item(value):
        if not isinstance(value, Pairs):
            return False
        inner = [each for name, each in value if name == "params" and isinstance(each, Pairs)]
        return (
            twice(value, "params") or twice(value, "custom_id") or any(twice(each, "model") for each in inner)
        )

    listed = [each for name, each in document if name == "requests" and type(each) is list]
    return twice(document, "requests") or any(item(each) for items in listed for each in items)


def scanned(body, sizes):
    """Feed the body in chunks of the sizes in turn; gives the scan, the items, and what would go up."""
    scan, found, at, chunks = CreateScan(1 << 20, ALIASES), [], 0, []
    while at < len(body):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(body[at : at + size])
        found += scan.feed(chunks[-1])
        at += size
    found += scan.end()
    edits = scan.take_edits()
    up = list(edits.applied(chunks))
    assert all(up)  # an empty piece would end the body
    assert sum(map(len, up)) == len(body) + edits.growth
    return scan, found, b"".join(up)


@settings(max_examples=150, deadline=None)
@given(
    document=bodies, draw=st.randoms(use_true_random=False), sizes=st.lists(st.integers(1, 30), min_size=1)
)
@example(document=Pairs([(KEY, Pairs())]), draw=random.Random(0), sizes=[1])
def test_a_body_is_cut_and_read_as_json_reads_it(document, draw, sizes):
    body = written(document, draw).encode()
    assert read_as_json(body) is not None
    try:
        scan, found, up = scanned(body, sizes)
    except CannotTake:
        assert is_ambiguous(document)
        return
    view = scan.view()
    assert not is_ambiguous(document)
    assert view.is_read
    assert read_as_json(up) == as_it_goes_up(read_as_json(body))
    listed = [value for name, value in document if name == "requests" and type(value) is list]
    asked = [dict(each) if isinstance(each, Pairs) else {} for each in (listed[0] if listed else [])]
    inner = [dict(p) if isinstance(p := each.get("params"), Pairs) else {} for each in asked]
    asked_by = [each.get("model") if isinstance(each.get("model"), str) else "" for each in inner]
    models = [model_of(each) for each in asked_by]
    assert [each.params.model for each in found] == models
    assert view.models == tuple(dict.fromkeys(model for model in models if model))
    assert view.are_models_known == all(models)
    assert view.requests == len(asked)
    ids = [each.get("custom_id") if isinstance(each.get("custom_id"), str) else "" for each in asked]
    assert [each.custom_id for each in found] == ids
    if KEY not in json.dumps(document) and models == asked_by:
        assert up == body


@settings(max_examples=150, deadline=None)
@given(
    document=bodies,
    draw=st.randoms(use_true_random=False),
    sizes=st.lists(st.integers(1, 30), min_size=1),
    place=st.floats(0, 1),
    instead=st.binary(max_size=2)
    | st.sampled_from((b",", b"}", b'"', b"\\", b"[", b"{", b"NaN", b"//", b"'")),
)
def test_what_the_json_module_refuses_is_not_read_and_not_cut(document, draw, sizes, place, instead):
    body = written(document, draw).encode()
    at = int(place * len(body))
    body = body[:at] + instead + body[at + 1 :]
    if re.search(rb"\\u[dD][89a-fA-F]", body):
        return  # half of an emoji: the json module takes it, and Anthropic does not
    read = read_as_json(body)
    try:
        scan, _, up = scanned(body, sizes)
    except CannotTake:
        return  # what is ambiguous before the fault is refused at once
    assert scan.view().is_read == isinstance(read, Pairs)
    if not scan.view().is_read:
        assert up == body
        assert scan.view().models_asked_for() is None
