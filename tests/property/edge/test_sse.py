"""Whatever a stream is made of and however it is cut, the splitter finds what the standard says is there."""

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.edge.tap.sse import EventSplitter

WANTED = frozenset((b"message_start", b"message_stop"))
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

pieces = st.sampled_from(
    [
        *(b"event: message_start\n", b"event:message_stop\r\n", b"event: ping\r", b"event\n", b"event"),
        *(b"data: 1\n", b"data:{}\r\n", b"data: x\r", b"data\n", b"data:", b"data", b"data:  \n"),
        *(b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b":", b": a comment\n", b" ", b"id: 7\n", b"even"),
        *(b"message_start", b"message_stop", BYTE_ORDER_MARK, b"\xef", b"\xef\xbb", b"\0", b"\xff\n"),
    ]
)
streams = st.lists(st.one_of(pieces, st.binary(max_size=3)), max_size=30).map(b"".join)


def lines_of(stream):
    """Cut a stream into its whole lines, byte by byte."""
    line, at = b"", 0
    while at < len(stream):
        byte = stream[at : at + 1]
        at += 1
        if byte == b"\r" and stream[at : at + 1] == b"\n":
            at += 1
        if byte in (b"\r", b"\n"):
            yield line
            line = b""
        else:
            line += byte


def events_by_the_book(stream):
    """Read a stream as the HTML standard says it is read, in section 9.2.6, one sentence after the other."""
    if stream.startswith(BYTE_ORDER_MARK):
        stream = stream[len(BYTE_ORDER_MARK) :]
    name, data = b"", b""
    for line in lines_of(stream):
        if line == b"":
            if data and name in WANTED:
                yield name, data[:-1]
            name, data = b"", b""
            continue
        field, colon, value = line.partition(b":")
        if colon and field == b"":
            continue
        if value[:1] == b" ":
            value = value[1:]
        if field == b"event":
            name = value
        elif field == b"data":
            data += value + b"\n"


@given(streams, st.lists(st.integers(0, 200), max_size=8))
@example(b"data: 1\revent: message_stop\r\n\r", [8, 29])
@settings(max_examples=500, deadline=None)
def test_it_finds_what_the_standard_says_is_there(stream, cuts):
    splitter = EventSplitter(WANTED)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    found = [event for start, end in pairwise(edges) for event in splitter.feed(stream[start:end])]
    assert found == list(events_by_the_book(stream))
    assert splitter.oversized == set()


@given(streams)
@settings(max_examples=200, deadline=None)
def test_byte_by_byte_it_finds_the_same(stream):
    splitter = EventSplitter(WANTED)
    found = [event for at in range(len(stream)) for event in splitter.feed(stream[at : at + 1])]
    assert found == list(events_by_the_book(stream))
