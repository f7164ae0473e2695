"""Every recorded exchange passes byte for byte in both directions and is recorded once, as recorded."""

import base64
import gzip
import json
import os
from pathlib import Path

import msgspec
import pytest

from schemas.usage import TokenCounts
from services.local.anthropic.reply import CannedReply
from tests.integration.edge.harness import exchange, usage_of

DIRECTORY = os.environ.get("TOLLHOUSE_RECORDINGS", "")
RECORDINGS = sorted(Path(DIRECTORY).glob("*.json")) if DIRECTORY else []
GATEWAY_KEY = b"sk-ant-gateway"

pytestmark = pytest.mark.skipif(not RECORDINGS, reason="TOLLHOUSE_RECORDINGS names no recordings")


def chunked(body, size):
    return tuple(body[at : at + size] for at in range(0, len(body), size))


@pytest.mark.parametrize("framing", ["chunked", "content-length"])
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_recorded_exchange_passes_and_is_recorded_once(path, framing, edge, upstream, client):
    recording = json.loads(path.read_text())
    request, response = recording["request"], recording["response"]
    body = _body(response)
    came = [(name.encode(), value.encode()) for name, value in response["headers"].items()]
    if framing == "content-length":
        came.append((b"content-length", b"%d" % len(body)))
    dropped_on_the_way = [(b"set-cookie", b"__cf_bm=1"), (b"alt-svc", b"h3"), (b"set-cookie", b"b=2")]
    headers = (*came, *dropped_on_the_way)
    upstream.reply_next(CannedReply(status=response["status"], headers=headers, chunks=chunked(body, 333)))

    sent = [(name.encode(), value.encode()) for name, value in request["headers"].items()]
    sent_body = request["body"].encode()
    framed = [(b"content-length", b"%d" % len(sent_body))]
    answer, received = exchange(
        client,
        request["method"],
        edge.base_url + "/anthropic" + request["target"],
        [(b"host", b"edge"), *sent, *framed, (b"authorization", b"Bearer sk-caller")],
        sent_body,
    )

    exchanged = edge.take_one()
    request_id = exchanged.started.request_id.encode()
    named = [(b"x-tollhouse-request-id", request_id), (b"x-litellm-call-id", request_id)]
    framing_header = [(b"transfer-encoding", b"chunked")] if framing == "chunked" else []
    assert (answer.status_code, received) == (response["status"], body)
    assert answer.headers.raw == [*came, *named, *framing_header]

    up = upstream.received[-1]
    assert (up.method, up.target, up.body) == (request["method"], request["target"].encode(), sent_body)
    assert [(name.lower(), value) for name, value in up.headers] == [
        (b"host", upstream.base_url.removeprefix("http://").encode()),
        *sent,
        *framed,
        (b"x-api-key", GATEWAY_KEY),
    ]

    assert exchanged.used == usage_of(exchanged, **_expected(request, response))
    assert (exchanged.started.request_bytes, exchanged.finished.response_bytes) == (len(sent_body), len(body))


def _expected(request, response):
    """Read the recording by rules of its own: SDK accumulation, written here a second time."""
    asked = json.loads(request["body"])
    expected = {
        "is_stream": asked.get("stream", False),
        "model_requested": asked["model"],
        "http_status": response["status"],
        "upstream_request_id": response["headers"].get("request-id", ""),
    }
    if request["target"].startswith("/v1/messages/count_tokens"):
        return {**expected, "operation": "count_tokens", "endpoint": "/v1/messages/count_tokens"}
    if response["status"] >= 400:
        error_type = json.loads(_decoded(response))["error"]["type"]
        return {**expected, "outcome": "upstream_error", "error_type": error_type}
    message = _message(response)
    usage = message["usage"]
    splits = usage.get("cache_creation") or {}
    one_hour = splits.get("ephemeral_1h_input_tokens", 0)
    return {
        **expected,
        "usage_status": "final",
        "model_served": message["model"],
        "message_id": message["id"],
        "stop_reason": message["stop_reason"],
        "tokens": TokenCounts(
            input_tokens=usage["input_tokens"],
            output_tokens=usage["output_tokens"],
            cache_read_tokens=usage.get("cache_read_input_tokens") or 0,
            cache_write_5m_tokens=(usage.get("cache_creation_input_tokens") or 0) - one_hour,
            cache_write_1h_tokens=one_hour,
            thinking_tokens=(usage.get("output_tokens_details") or {}).get("thinking_tokens", 0),
            web_search_requests=(usage.get("server_tool_use") or {}).get("web_search_requests", 0),
        ),
        "service_tier": usage.get("service_tier", ""),
        "inference_geo": usage.get("inference_geo", ""),
        "usage": msgspec.Raw(msgspec.json.encode(usage)),
    }


def _message(response):
    if "event-stream" not in response["headers"]["content-type"]:
        return json.loads(_decoded(response))
    events = [json.loads(line[5:]) for line in _decoded(response).splitlines() if line[:5] == "data:"]
    message = next(event["message"] for event in events if event["type"] == "message_start")
    last = [event for event in events if event["type"] == "message_delta"][-1]
    message["usage"].update({name: value for name, value in last["usage"].items() if value is not None})
    message["stop_reason"] = last["delta"]["stop_reason"]
    return message


def _body(response):
    if response["body_encoding"] == "base64":
        return base64.b64decode(response["body"])
    return response["body"].encode()


def _decoded(response):
    body = _body(response)
    return (gzip.decompress(body) if "content-encoding" in response["headers"] else body).decode()
