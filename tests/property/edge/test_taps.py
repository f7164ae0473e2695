"""However an answer is cut into chunks, a tap says the same of it; and no bytes at all make it raise."""

import base64
import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.edge.tap.reading import Reading
from services.edge.tap.taps import tap_for

DIRECTORY = os.environ.get("TOLLHOUSE_RECORDINGS", "")
RECORDINGS = sorted(Path(DIRECTORY).glob("*.json")) if DIRECTORY else []
CODINGS = ("", "gzip", "deflate", "br", "zstd")

counts = st.one_of(st.none(), st.integers(0, 10**6), st.integers(), st.floats(allow_nan=False), st.booleans())
usages = st.dictionaries(
    st.sampled_from(
        [
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "of_tomorrow",
        ]
    ),
    counts,
)
starts = usages.map(lambda usage: {"message": {"id": "msg_1", "model": "m", "usage": usage}})
deltas = usages.map(lambda usage: {"delta": {"stop_reason": "end_turn"}, "usage": usage})
named = st.one_of(
    st.tuples(st.just("message_start"), starts),
    st.tuples(st.just("message_delta"), deltas),
    st.tuples(st.sampled_from(["ping", "content_block_delta", "of_tomorrow"]), st.just({"type": "x"})),
    st.tuples(st.sampled_from(["message_stop", "error"]), st.just({"error": {"type": "overloaded_error"}})),
    st.tuples(st.just("message_delta"), st.just("not an object")),
)
line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw):
    """A stream of events, sane or not, with any line end and sometimes without its own end."""
    events = draw(st.lists(named, max_size=8))
    end = draw(line_ends)
    padding = b" " * draw(st.integers(0, 15))
    written = [
        b"event: " + name.encode() + end + b"data: " + json.dumps(data).encode() + padding + end + end
        for name, data in events
    ]
    stream = b"".join(written)
    return stream[: draw(st.integers(0, len(stream)))] if draw(st.booleans()) else stream


def said(chunks, content_type, coding="", operation="messages"):
    """What a tap says of an answer once all of it has passed."""
    tap = tap_for(operation, 200, content_type, coding)
    for chunk in chunks:
        tap.feed(chunk)
    return tap.read(), tap.has_started, tap.is_complete, tap.is_cut_short


def cut(body, places):
    bounds = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(bounds)]


places = st.lists(st.integers(0, 10**9), max_size=40)


@given(streams(), places)
@settings(max_examples=300, deadline=None)
def test_any_split_of_a_generated_stream_says_the_same(stream, where):
    kind = "text/event-stream"
    assert said(cut(stream, where), kind) == said([stream], kind)
    assert said([bytes([byte]) for byte in stream], kind) == said([stream], kind)


@pytest.mark.skipif(not RECORDINGS, reason="TOLLHOUSE_RECORDINGS names no recordings")
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_any_split_of_a_recorded_answer_says_the_same(path):
    response = json.loads(path.read_text())["response"]
    body = response["body"].encode()
    if response["body_encoding"] == "base64":
        body = base64.b64decode(response["body"])
    kind, coding = response["headers"]["content-type"], response["headers"].get("content-encoding", "")
    whole = said([body], kind, coding)

    @given(places)
    @settings(max_examples=25, deadline=None)
    def split(where):
        assert said(cut(body, where), kind, coding) == whole

    split()
    assert said([body[at : at + 1] for at in range(len(body))], kind, coding) == whole
    is_message = response["status"] == 200 and not path.stem.startswith("count_tokens")
    assert whole[0].usage_status == ("final" if is_message else "none")


@given(
    st.lists(st.binary(max_size=200), max_size=6),
    st.sampled_from(CODINGS),
    st.sampled_from(["text/event-stream", "application/json"]),
)
@settings(max_examples=400, deadline=None)
def test_no_bytes_make_a_tap_raise(chunks, coding, kind):
    reading, *_ = said(chunks, kind, coding)
    assert isinstance(reading, Reading)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    [
        "id",
        "model",
        "stop_reason",
        "usage",
        "type",
        "error",
        "message",
        "delta",
        "cache_creation",
        "input_tokens",
    ]
)
shapes = st.dictionaries(fields, json_values | st.dictionaries(fields, json_values, max_size=4), max_size=6)


@given(shapes, st.sampled_from(["message_start", "message_delta", "message_stop", "error"]))
@settings(max_examples=300, deadline=None)
def test_no_shape_of_json_makes_a_tap_raise(shape, name):
    document = json.dumps(shape).encode()
    event = b"event: " + name.encode() + b"\ndata: " + document + b"\n\n"
    assert isinstance(said([event], "text/event-stream")[0], Reading)
    assert isinstance(said([document], "application/json")[0], Reading)


@pytest.mark.parametrize("depth", range(850, 1010, 5))
def test_no_depth_of_nesting_makes_a_tap_raise(depth):
    nested = b'{"input_tokens":1,"deep":' + b"[" * depth + b"]" * depth + b"}"
    event = b'event: message_start\ndata: {"message":{"usage":' + nested + b"}}\n\n"
    assert isinstance(said([event], "text/event-stream")[0], Reading)
    assert isinstance(said([b'{"usage":' + nested + b"}"], "application/json")[0], Reading)
