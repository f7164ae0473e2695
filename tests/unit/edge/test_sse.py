"""A stream of events is split the same whatever the line ends and the chunks; only what is wanted is kept."""

import pytest

from services.edge.tap.sse import DATA_BYTES_MAX, EventSplitter

WANTED = frozenset((b"message_start", b"message_stop"))
STREAM = (
    b": a comment\n\n"
    b'event: message_start\ndata: {"a":1}   \n\n'
    b"event: ping\ndata: {}\n\n"
    b"event:content_block_delta\ndata:{\n\n"
    b"event: message_stop\nid: 7\nretry: 3\ndata: one\ndata:two\nunknown\n\n"
    b"data: nameless\n\n"
    b"event: message_stop\n\n"
    b"event: message_start\ndata:\n\n"
)
EVENTS = [
    (b"message_start", b'{"a":1}   '),
    (b"message_stop", b"one\ntwo"),
    (b"message_start", b""),
]


def events_of(stream, chunk_bytes):
    splitter = EventSplitter(WANTED)
    found = []
    for at in range(0, len(stream), chunk_bytes):
        found.extend(splitter.feed(stream[at : at + chunk_bytes]))
    return found, splitter.oversized


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 5, 17, 1000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_wanted_events_are_found_with_any_line_end_in_chunks_of_any_size(line_end, chunk_bytes):
    assert events_of(STREAM.replace(b"\n", line_end), chunk_bytes) == (EVENTS, set())


def test_an_event_is_given_with_the_chunk_that_completes_it_and_not_before():
    splitter = EventSplitter(WANTED)
    fed = [
        list(splitter.feed(chunk)) for chunk in (b"event: message_st", b"op\ndata: 1\n", b"", b"\n", b"\n")
    ]
    assert fed == [[], [], [], [(b"message_stop", b"1")], []]


def test_a_carriage_return_completes_an_event_without_waiting_for_a_newline():
    splitter = EventSplitter(WANTED)
    assert list(splitter.feed(b"event: message_stop\rdata: 1\r\r")) == [(b"message_stop", b"1")]


def test_a_line_end_that_is_cut_in_two_is_one_line_end():
    splitter = EventSplitter(WANTED)
    chunks = (b"event: message_stop\r", b"\ndata: 1\r", b"\ndata: 2\r", b"\n\r", b"\n")
    assert [event for chunk in chunks for event in splitter.feed(chunk)] == [(b"message_stop", b"1\n2")]


def test_an_event_whose_end_never_comes_is_not_given():
    assert events_of(b"event: message_stop\ndata: 1\n", 4) == ([], set())


@pytest.mark.parametrize("chunk_bytes", [4096, 2 * DATA_BYTES_MAX + 1000])
def test_a_wanted_event_beyond_the_limit_is_named_and_left_out(chunk_bytes):
    stream = b"event: message_start\ndata: " + b"x" * (2 * DATA_BYTES_MAX) + b"\ndata: y\n\n" + STREAM
    assert events_of(stream, chunk_bytes) == (EVENTS, {b"message_start"})


@pytest.mark.parametrize("chunk_bytes", [4096, 2 * DATA_BYTES_MAX])
def test_many_lines_of_one_event_are_bounded_together(chunk_bytes):
    line = b"data: " + b"x" * (DATA_BYTES_MAX // 4) + b"\n"
    stream = b"event: message_start\n" + line * 6 + b"\n" + STREAM
    assert events_of(stream, chunk_bytes) == (EVENTS, {b"message_start"})


@pytest.mark.parametrize("chunk_bytes", [4096, 2 * DATA_BYTES_MAX])
@pytest.mark.parametrize("field", [b":", b"id:", b"x", b"event:"])
def test_a_long_line_of_another_field_is_passed_over(field, chunk_bytes):
    long = field + b" " * (DATA_BYTES_MAX + 1) + b"message_start\ndata: 1\n\n"
    assert events_of(long + STREAM, chunk_bytes) == (EVENTS, set())


def test_the_last_name_of_an_event_is_its_name():
    splitter = EventSplitter(WANTED)
    stream = b"event: message_start\ndata: 1\nevent: ping\n\n"
    stream += b"event: ping\ndata: 2\nevent: message_stop\n\n"
    stream += b"event: message_stop\ndata: 3\nevent\n\n"
    assert list(splitter.feed(stream)) == [(b"message_stop", b"2")]


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 5, 17, 1000])
@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: 1\nevent: message_stop\n\n", b"1"),
        (b"data: 1\ndata: 2\nevent: message_stop\ndata: 3\n\n", b"1\n2\n3"),
        (b"event:message_stop\ndata:1\n\n", b"1"),
        (b"event: message_stop\ndata:  1 \n\n", b" 1 "),
        (b"event: message_stop\ndata\n\n", b""),
        (b"event: message_stop\ndata\ndata\n\n", b"\n"),
        (b"\xef\xbb\xbfevent: message_stop\ndata: 1\n\n", b"1"),
        (b"\xef\xbb\xbfdata: 1\nevent: message_stop\n\n", b"1"),
        (b"\xef\xbb\xbf: a comment\r\nevent: message_stop\r\ndata: 1\r\n\r\n", b"1"),
        (b": a comment\nevent: message_stop\n: another\ndata: 1\n:\n\n", b"1"),
        (b"data: lost\n\nevent: message_stop\ndata: 1\n\n", b"1"),
        (b"event: lost\n\nevent: message_stop\ndata: 1\n\n", b"1"),
    ],
)
def test_an_event_may_be_written_in_any_way_that_the_standard_knows(stream, expected, chunk_bytes):
    assert events_of(stream, chunk_bytes) == ([(b"message_stop", expected)], set())


@pytest.mark.parametrize(
    "stream",
    [
        b"event:  message_stop\ndata: 1\n\n",
        b"event: message_stop \ndata: 1\n\n",
        b" event: message_stop\ndata: 1\n\n",
        b"Event: message_stop\ndata: 1\n\n",
        b"event : message_stop\ndata: 1\n\n",
        b"\n\xef\xbb\xbfevent: message_stop\ndata: 1\n\n",
        b"\xef\xbb\xbf\xef\xbb\xbfevent: message_stop\ndata: 1\n\n",
        b"event: message_stop\n\ndata: 1\n\n",
    ],
)
def test_what_sdks_do_not_take_for_an_event_is_none(stream):
    assert [events_of(stream, chunk_bytes) for chunk_bytes in (1, 3, 1000)] == [([], set())] * 3


@pytest.mark.parametrize("chunk_bytes", [4096, 2 * DATA_BYTES_MAX])
@pytest.mark.parametrize("field", [b"data:", b"data: "])
@pytest.mark.parametrize("beyond", [0, 1])
def test_the_limit_is_the_same_however_the_stream_is_cut(beyond, field, chunk_bytes):
    value = b"x" * (DATA_BYTES_MAX - 1 + beyond)
    stream = field + value + b"\nevent: message_stop\n\n"
    expected = ([], {b"message_stop"}) if beyond else ([(b"message_stop", value)], set())
    assert events_of(stream, chunk_bytes) == expected


def test_a_long_line_that_nobody_wants_is_passed_over_without_being_kept():
    splitter = EventSplitter(WANTED)
    assert list(splitter.feed(b"event: content_block_delta\ndata: ")) == []
    for _ in range(40):
        assert list(splitter.feed(b"x" * (DATA_BYTES_MAX // 20))) == []
    assert list(splitter.feed(b"\n\n" + STREAM)) == EVENTS
    assert splitter.oversized == set()
