"""What was recorded of the real API, beside what the simulated one says: shapes, headers, refusals."""

import base64
import json
import os
import re
from pathlib import Path

import httpx
import pytest

from services.local.anthropic.reply import CannedReply
from services.local.anthropic.server import SimulatedAnthropic

DIRECTORY = os.environ.get("TOLLHOUSE_RECORDINGS", "")
RECORDINGS = sorted(Path(DIRECTORY).glob("*.json")) if DIRECTORY else []
STREAMS = [path for path in RECORDINGS if path.stem.startswith("stream_")]
HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
ASK = {
    "model": "claude-sonnet-5",
    "max_tokens": 4096,
    "messages": [{"role": "user", "content": "What passed?"}],
}
# How the recorded situation is brought about here.
SITUATIONS = {
    "stream_1": ({}, ""),
    "stream_thinking_1": ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, ""),
    "stream_cache_read_1": ({"cache_control": {"type": "ephemeral"}}, ""),
    "stream_advisor_iterations_1": (
        {"thinking": {"type": "adaptive"}, "tools": [{"type": "advisor_20260301", "name": "advisor"}]},
        "iterations=advisor",
    ),
    "stream_web_search_1": ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, ""),
}

# Of an advisor only the cost is simulated, not its blocks.
NOT_SIMULATED = {
    "stream_advisor_iterations_1": {
        "content_block_start.content_block.server_tool_use",
        "content_block_start.content_block.advisor_tool_result",
        "content_block_delta.delta.input_json_delta",
    }
}

pytestmark = pytest.mark.skipif(not RECORDINGS, reason="TOLLHOUSE_RECORDINGS names no recordings")


@pytest.fixture(scope="module")
def upstream():
    with SimulatedAnthropic.in_thread() as simulated:
        yield simulated


@pytest.fixture(scope="module")
def client(upstream):
    with httpx.Client(base_url=upstream.base_url, trust_env=False, headers=HEADERS) as client:
        yield client


def body_of(response):
    body = response["body"]
    return base64.b64decode(body) if response["body_encoding"] == "base64" else body.encode()


def shapes(stream):
    """Collect, by kind of event or delta or block, every set of fields that it was seen with."""
    found = {}
    for data in re.findall(r"^data: (.*)$", stream, re.MULTILINE):
        event = json.loads(data)
        found.setdefault(event["type"], set()).update(event)
        for part in ("delta", "content_block", "usage", "message"):
            inner = event.get(part)
            if inner is not None:
                kind = f"{event['type']}.{part}.{inner.get('type', '')}"
                found.setdefault(kind, set()).update(inner)
    return found


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_simulated_stream_has_every_field_of_the_recorded_one(path, client):
    fields, spec = SITUATIONS[path.stem]
    recorded = shapes(json.loads(path.read_text())["response"]["body"])
    reply = client.post("/v1/messages", headers={"x-simulate": spec}, json=ASK | fields | {"stream": True})
    simulated = shapes(reply.text)
    missing = {
        kind: fields - simulated.get(kind, set())
        for kind, fields in recorded.items()
        if kind not in NOT_SIMULATED.get(path.stem, ())
    }
    assert {kind: fields for kind, fields in missing.items() if fields} == {}


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_recording_is_replayed_byte_for_byte(path, upstream, client):
    response = json.loads(path.read_text())["response"]
    headers = tuple((name.encode(), value.encode()) for name, value in response["headers"].items())
    body = body_of(response)
    chunks = tuple(body[start : start + 500] for start in range(0, len(body), 500))
    upstream.reply_next(CannedReply(status=response["status"], headers=headers, chunks=chunks))
    with client.stream("POST", "/anything") as reply:
        assert b"".join(reply.iter_raw()) == body
    assert reply.status_code == response["status"]
    assert [header for header in reply.headers.raw if header[0] != b"transfer-encoding"] == list(headers)


@pytest.mark.parametrize("name", ["error_bad_request_1", "error_invalid_api_key_1"])
def test_a_refusal_reads_as_recorded(name):
    recording = json.loads(Path(DIRECTORY, f"{name}.json").read_text())
    request, response = recording["request"], recording["response"]
    key = "sk-right" if name == "error_bad_request_1" else "sk-wrong"
    with (
        SimulatedAnthropic.in_thread(api_key="sk-right") as upstream,
        httpx.Client(trust_env=False) as client,
    ):
        headers = request["headers"] | {"x-api-key": key}
        reply = client.post(upstream.base_url + request["target"], headers=headers, content=request["body"])
    assert reply.status_code == response["status"]
    assert reply.json() | {"request_id": None} == json.loads(response["body"]) | {"request_id": None}
    assert reply.headers["x-should-retry"] == response["headers"]["x-should-retry"]


def test_a_message_has_the_recorded_header_names(client):
    recorded = json.loads(Path(DIRECTORY, "message_cache_write_1h_gzip_1.json").read_text())["response"][
        "headers"
    ]
    reply = client.post("/v1/messages", headers={"x-simulate": "gzip"}, json=ASK)
    edge_of_the_network = {"content-security-policy", "x-envoy-upstream-service-time"}
    assert set(recorded) - edge_of_the_network - set(reply.headers) == set()
