"""Every recorded exchange passes byte for byte, and its row says what the recording says."""

import base64
import gzip
import json
import os
from pathlib import Path

import httpx
import pytest

from services.local.anthropic.reply import CannedReply
from services.local.anthropic.server import SimulatedAnthropic
from tests.e2e.conftest import Stack

DIRECTORY = os.environ.get("TOLLHOUSE_RECORDINGS", "")
RECORDINGS = sorted(Path(DIRECTORY).glob("*.json")) if DIRECTORY else []
CHUNK_BYTES = 700  # so that events are cut anywhere

pytestmark = pytest.mark.skipif(not RECORDINGS, reason="TOLLHOUSE_RECORDINGS names no recordings")


@pytest.fixture(scope="module")
def upstream():
    with SimulatedAnthropic.in_thread() as simulated:
        yield simulated


@pytest.fixture(scope="module")
def stack(tmp_path_factory, upstream):
    stack = Stack(
        tmp_path_factory.mktemp("recordings"),
        "--upstream",
        upstream.base_url,
        environ={"ANTHROPIC_API_KEY": "sk-gateway"},
    )
    yield stack
    stack.stop()


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_recording_passes_unchanged_and_is_metered_as_recorded(path, stack, upstream):
    recording = json.loads(path.read_text())
    request, response = recording["request"], recording["response"]
    body = _body(response)
    headers = tuple((name.encode(), value.encode()) for name, value in response["headers"].items())
    chunks = tuple(body[at : at + CHUNK_BYTES] for at in range(0, len(body), CHUNK_BYTES))
    upstream.reply_next(CannedReply(status=response["status"], headers=headers, chunks=chunks))

    with httpx.Client(trust_env=False) as client:
        outgoing = httpx.Request(
            request["method"],
            stack.base_url + request["target"],
            headers={**request["headers"], "x-api-key": "sk-caller"},
            content=request["body"].encode(),
        )
        answer = client.send(outgoing, stream=True)
        received = b"".join(answer.iter_raw())
        answer.close()

    assert (answer.status_code, received) == (response["status"], body)
    passed_up = upstream.received[-1]
    assert (passed_up.target, passed_up.body) == (request["target"].encode(), request["body"].encode())
    for name, value in response["headers"].items():
        assert answer.headers[name] == value

    row = _row(stack, answer.headers["x-tollhouse-request-id"])
    assert row == _expected(request, response)


COLUMNS = (
    "operation, http_status, outcome, error_type, message_id, model_served, stop_reason, usage_status, "
    "input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, "
    "thinking_tokens, web_search_requests, usage_json"
)


def _row(stack, request_id):
    query = f"SELECT {COLUMNS} FROM tollhouse.usage WHERE request_id = '{request_id}'"
    (found,) = stack.rows(query, 1)
    *values, usage_json = found
    return (*values, json.loads(usage_json))


def _expected(request, response):
    """Read the recording by rules of its own: SDK accumulation, written here a second time."""
    if request["target"].startswith("/v1/messages/count_tokens"):
        return ("count_tokens", 200, "completed", "", "", "", "", "none", *([0] * 7), None)
    if response["status"] >= 400:
        error_type = json.loads(_decoded(response))["error"]["type"]
        status = response["status"]
        return ("messages", status, "upstream_error", error_type, "", "", "", "none", *([0] * 7), None)
    if "event-stream" in response["headers"]["content-type"]:
        events = [json.loads(line[5:]) for line in _decoded(response).splitlines() if line[:5] == "data:"]
        message = next(event["message"] for event in events if event["type"] == "message_start")
        last = [event for event in events if event["type"] == "message_delta"][-1]
        message["usage"].update({name: value for name, value in last["usage"].items() if value is not None})
        message["stop_reason"] = last["delta"]["stop_reason"]
    else:
        message = json.loads(_decoded(response))
    usage = message["usage"]
    writes = usage.get("cache_creation_input_tokens") or 0
    split = usage.get("cache_creation") or {}
    one_hour = split.get("ephemeral_1h_input_tokens", 0)
    if one_hour and not split.get("ephemeral_5m_input_tokens"):
        one_hour = writes
    return (
        *("messages", 200, "completed", "", message["id"], message["model"], message["stop_reason"]),
        *("final", usage["input_tokens"], usage["output_tokens"], usage.get("cache_read_input_tokens") or 0),
        *(writes - one_hour, one_hour),
        (usage.get("output_tokens_details") or {}).get("thinking_tokens", 0),
        (usage.get("server_tool_use") or {}).get("web_search_requests", 0),
        usage,
    )


def _body(response):
    if response["body_encoding"] == "base64":
        return base64.b64decode(response["body"])
    return response["body"].encode()


def _decoded(response):
    body = _body(response)
    return (gzip.decompress(body) if "content-encoding" in response["headers"] else body).decode()
