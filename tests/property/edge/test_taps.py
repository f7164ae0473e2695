"""However an answer is cut into chunks, a tap says the same of it; and no bytes at all make it raise."""

import base64
import gzip
import json
import os
import zlib
from itertools import pairwise
from pathlib import Path

import brotli
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.usage_rules import Reading
from services.edge.tap.stream import ESSENTIAL_EVENTS, HELPFUL_EVENTS
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
outputs = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text_delta", "thinking_delta", "input_json_delta", "signature_delta"]),
        "text": st.one_of(st.text(max_size=20), st.none()),
        "thinking": st.text(max_size=20),
        "partial_json": st.text(max_size=20),
        "estimated_tokens": counts,
    },
)
blocks = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "fallback"])},
    optional={
        "to": st.dictionaries(st.sampled_from(["model", "id"]), st.text(max_size=5)),
        "text": st.text(),
    },
)
named = st.one_of(
    st.tuples(st.just("message_start"), starts),
    st.tuples(st.just("message_delta"), deltas),
    st.tuples(st.sampled_from(["ping", "content_block_delta", "of_tomorrow"]), st.just({"type": "x"})),
    st.tuples(st.just("content_block_delta"), outputs.map(lambda delta: {"index": 0, "delta": delta})),
    st.tuples(st.just("content_block_start"), blocks.map(lambda block: {"index": 0, "content_block": block})),
    st.tuples(st.sampled_from(["message_stop", "error"]), st.just({"error": {"type": "overloaded_error"}})),
    st.tuples(st.just("message_delta"), st.just("not an object")),
)
line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


def _json(draw, data):
    return json.dumps(data, ensure_ascii=draw(st.booleans())).encode("utf-8", "replace")


@st.composite
def streams(draw):
    """A stream of events, sane or not, with any line end and sometimes without its own end."""
    events = draw(st.lists(named, max_size=8))
    end = draw(line_ends)
    padding = b" " * draw(st.integers(0, 15))
    written = [
        b"event: " + name.encode() + end + b"data: " + _json(draw, data) + padding + end + end
        for name, data in events
    ]
    stream = b"".join(written)
    return stream[: draw(st.integers(0, len(stream)))] if draw(st.booleans()) else stream


def said(chunks, content_type, coding="", operation="messages"):
    """What a tap says of an answer once all of it has passed."""
    tap = tap_for(operation, 200, content_type, coding, "none")
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


ENCODERS = {
    "": lambda body: body,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


@given(streams(), places, st.sampled_from(sorted(ENCODERS)))
@settings(max_examples=100, deadline=None)
def test_any_split_of_a_stream_in_any_coding_says_the_same(stream, where, coding):
    packed = ENCODERS[coding](stream)
    kind = "text/event-stream"
    assert said(cut(packed, where), kind, coding) == said([stream], kind)


def long_stream(bytes_min):
    """A stream of text deltas as they come, with its end; and the number of characters in it."""
    usage = b'"usage":{"input_tokens":9,"output_tokens":1}'
    start = b'event: message_start\ndata: {"message":{"id":"msg_1","model":"m",%s}}\n\n' % usage
    text = "Größe und Ünglück \\n"
    delta = (
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        f'"delta":{{"type":"text_delta","text":"{text}"}}}}       \n\n'
    ).encode()
    count = bytes_min // len(delta) + 1
    totals = (
        b'event: message_delta\ndata: {"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}\n\n'
    )
    stop = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    return start + delta * count, totals + stop, count * (len(text) - 1)


def test_a_long_stream_says_the_same_byte_by_byte_and_leaves_nothing_behind():
    """TOLLHOUSE_LONG_STREAM_MB=50 is the form that was measured; it takes a minute or two."""
    size = int(float(os.environ.get("TOLLHOUSE_LONG_STREAM_MB", "1")) * 1_000_000)
    begun, ended, characters = long_stream(size)
    whole = tap_for("messages", 200, "text/event-stream", "", "none")
    bytewise = tap_for("messages", 200, "text/event-stream", "", "none")
    whole.feed(begun)
    before = held_bytes(bytewise)
    for at in range(len(begun)):
        bytewise.feed(begun[at : at + 1])
    assert held_bytes(bytewise) < before + 100_000
    assert bytewise.read() == whole.read()
    assert whole.read().tokens.output_tokens == -(-characters // 4)
    for byte in ended:
        bytewise.feed(bytes([byte]))
    whole.feed(ended)
    assert bytewise.read() == whole.read()
    assert (whole.read().usage_status, whole.read().tokens.output_tokens) == ("final", 7)


def held_bytes(tap):
    """What a tap keeps, as far as it can be written down."""
    return len(repr(vars(tap))) + sum(
        len(repr(vars(part))) for part in (tap._decoder, tap._events) if vars(part)
    )


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


@given(streams(), st.sampled_from(sorted(ENCODERS)), places, st.integers(0, 255), places)
@settings(max_examples=200, deadline=None)
def test_no_damage_on_the_way_makes_a_tap_raise(stream, coding, damaged, byte, where):
    packed = bytearray(ENCODERS[coding](stream))
    for place in damaged if packed else ():
        packed[place % len(packed)] ^= byte
    for kind in ("text/event-stream", "application/json"):
        reading, *_ = said(cut(bytes(packed), where), kind, coding)
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
        "content_block",
        "to",
        "text",
        "estimated_tokens",
        "cache_creation",
        "input_tokens",
    ]
)
shapes = st.dictionaries(fields, json_values | st.dictionaries(fields, json_values, max_size=4), max_size=6)


@given(shapes, st.sampled_from(sorted(ESSENTIAL_EVENTS | HELPFUL_EVENTS)).map(bytes.decode))
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
