"""An answer of 30 MB passes as it came and is read in full, without holding up anybody else's."""

import gzip
import sys
import threading

import msgspec
import pytest

from schemas.usage import TokenCounts
from services.edge.config import EdgeConfig, UpstreamConfig
from services.edge.tap.document import JsonTap
from services.local.anthropic.reply import CannedReply
from tests.integration.edge.harness import Edge, exchange, usage_of

USAGE = {"input_tokens": 12, "output_tokens": 34}
LONG = msgspec.json.encode(
    {
        "id": "msg_1",
        "type": "message",
        "model": "m-1",
        "content": [
            {"type": "text", "text": f'{number:09} "quoted" ' + "é" * 2_000} for number in range(7_500)
        ],
        "stop_reason": "end_turn",
        "usage": USAGE,
    }
)
SHORT = msgspec.json.encode({"id": "msg_1", "model": "m-1", "stop_reason": "end_turn", "usage": USAGE})


@pytest.fixture
def readers():
    """The threads in which documents are read, seen from outside."""
    seen = set()

    def watch(frame, what, _):
        if what == "call" and frame.f_code is JsonTap._read.__code__:
            seen.add(threading.current_thread().name)

    threading.setprofile(watch)
    yield seen
    threading.setprofile(None)
    assert sys.getprofile() is None


@pytest.fixture
def edge(tmp_path, readers, upstream):
    """An edge whose threads are watched."""
    settings = UpstreamConfig(base_url=upstream.base_url, api_key="sk-ant-gateway")
    with Edge(tmp_path, EdgeConfig(upstream=settings)) as running:
        yield running


@pytest.mark.parametrize("framing", ["chunked", "content-length"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("body", [SHORT, LONG], ids=["short", "long"])
def test_an_answer_is_read_beside_the_event_loop_where_it_is_long(
    body, coding, framing, edge, readers, upstream, client
):
    packed = gzip.compress(body, 1) if coding == "gzip" else body
    headers = [(b"content-type", b"application/json"), (b"content-encoding", coding.encode())]
    if framing == "content-length":
        headers.append((b"content-length", b"%d" % len(packed)))
    upstream.reply_next(CannedReply(headers=tuple(headers), chunks=(packed,)))
    asked = {"x-api-key": "sk-caller", "content-type": "application/json"}
    _, received = exchange(client, "POST", edge.base_url + "/v1/messages", asked, b'{"model":"m"}')
    assert received == packed
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(
        exchanged,
        model_requested="m",
        usage_status="final",
        model_served="m-1",
        message_id="msg_1",
        stop_reason="end_turn",
        tokens=TokenCounts(input_tokens=12, output_tokens=34),
        usage=msgspec.Raw(msgspec.json.encode(USAGE)),
    )
    (reader,) = readers
    assert (reader == edge._thread.name) is (body is SHORT)
