"""The server itself: what it records, how it breaks on request, how a process of it starts and stops."""

import asyncio
import hashlib
import http.client
import random
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from services.local.anthropic.recording import FinishedExchange
from services.local.anthropic.reply import CannedReply
from services.local.anthropic.server import SimulatedAnthropic

HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
ASK = {
    "model": "claude-haiku-4-5",
    "max_tokens": 1000,
    "stream": True,
    "messages": [{"role": "user", "content": "What passed?"}],
}
STOP_SECONDS_MAX = 2.0


@pytest.fixture
def upstream():
    with SimulatedAnthropic.in_thread() as simulated:
        yield simulated


def ask(upstream, spec, timeout_seconds=5.0, **changes):
    headers = HEADERS | {"x-simulate": spec}
    with (
        httpx.Client(trust_env=False, timeout=timeout_seconds) as client,
        client.stream(
            "POST", f"{upstream.base_url}/v1/messages", headers=headers, json=ASK | changes
        ) as reply,
    ):
        received = []
        try:
            received.extend(reply.iter_raw())
        except httpx.TransportError as exc:
            return reply, b"".join(received), type(exc)
        return reply, b"".join(received), None


def test_a_request_is_recorded_exactly(upstream):
    address = upstream.base_url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=5)
    connection.putrequest("POST", "/v1//x%2Fy/?b=%41&a", skip_host=True, skip_accept_encoding=True)
    for name, value in (("Host", "somewhere"), ("X-Twice", "1"), ("x-twice", "2"), ("Content-Length", "3")):
        connection.putheader(name, value)
    connection.endheaders(b"\x00\xff!")
    assert connection.getresponse().status == 401
    connection.close()
    received = upstream.received[-1]
    assert (received.number, received.method, received.target, received.body) == (
        1,
        "POST",
        b"/v1//x%2Fy/?b=%41&a",
        b"\x00\xff!",
    )
    assert received.headers == (
        (b"Host", b"somewhere"),
        (b"X-Twice", b"1"),
        (b"x-twice", b"2"),
        (b"Content-Length", b"3"),
    )


def test_canned_replies_go_out_in_order_byte_for_byte(upstream):
    twice = ((b"content-type", b"text/odd"), (b"x-a", b"1"), (b"x-a", b"2"))
    upstream.reply_next(
        CannedReply(status=299, headers=twice, chunks=(b"one ", b"\x00two")),
        CannedReply(headers=((b"content-length", b"0"),)),
    )
    with httpx.Client(trust_env=False) as client:
        first, second = (client.get(f"{upstream.base_url}/any") for _ in range(2))
        third = client.get(f"{upstream.base_url}/any")
    sent = [header for header in first.headers.raw if header[0] != b"transfer-encoding"]
    assert (first.status_code, sent, first.content) == (299, list(twice), b"one \x00two")
    assert (second.status_code, second.content, third.status_code) == (200, b"", 401)


def test_a_canned_reply_can_be_cut(upstream):
    upstream.reply_next(CannedReply(chunks=(b"half",), ending="cut"))
    _, received, failure = ask(upstream, "")
    assert (received, failure) == (b"half", httpx.RemoteProtocolError)


@pytest.mark.parametrize(("spec", "events"), [("cut-after-events=4", 4), ("cut-after-events=0", 0)])
def test_a_stream_is_cut_after_so_many_events(upstream, spec, events):
    reply, received, failure = ask(upstream, spec)
    upstream.wait_finished(1)
    assert (reply.status_code, received.count(b"\n\n"), failure) == (200, events, httpx.RemoteProtocolError)
    assert list(upstream.finished) == [FinishedExchange(number=1, end="cut", sent_bytes=len(received))]


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_is_cut_after_so_many_bytes(upstream, stream):
    _, received, failure = ask(upstream, "cut-after-bytes=100", stream=stream)
    assert (len(received), failure) == (100, httpx.RemoteProtocolError)


def test_a_connection_is_closed_before_any_answer(upstream):
    with pytest.raises(httpx.RemoteProtocolError):
        ask(upstream, "cut-before-answer")


@pytest.mark.parametrize("spec", ["stall", "latency-ms=60000"])
def test_no_answer_comes_and_the_client_s_leaving_is_seen(upstream, spec):
    with pytest.raises(httpx.ReadTimeout):
        ask(upstream, spec, timeout_seconds=0.1)
    upstream.wait_finished(1)
    assert list(upstream.finished) == [FinishedExchange(number=1, end="client_gone", sent_bytes=0)]


@pytest.mark.parametrize("spec", ["stall-after-events=2", "chunk-delay-ms=60000"])
def test_a_stream_that_stops_midway_sees_its_client_leave(upstream, spec):
    _, received, failure = ask(upstream, spec, timeout_seconds=0.1)
    upstream.wait_finished(1)
    assert (upstream.finished[0].end, failure) == ("client_gone", httpx.ReadTimeout)
    assert upstream.finished[0].sent_bytes == len(received) > 0


def test_a_coded_stream_can_be_read_as_it_arrives(upstream):
    headers = HEADERS | {"x-simulate": "gzip;stall-after-events=3"}
    with (
        httpx.Client(trust_env=False, timeout=5) as client,
        client.stream("POST", f"{upstream.base_url}/v1/messages", headers=headers, json=ASK) as reply,
    ):
        read = b""
        for piece in reply.iter_bytes():
            read += piece
            if read.count(b"\n\n") == 3:
                break
    assert reply.headers["content-encoding"] == "gzip"
    assert read.endswith(b'event: ping\ndata: {"type": "ping"}\n\n')


def test_delays_are_kept(upstream):
    started = time.monotonic()
    ask(upstream, "latency-ms=60;chunk-delay-ms=10")
    assert time.monotonic() - started >= 0.06 + 8 * 0.01


def test_a_body_above_the_limit_gets_413_over_the_wire(upstream):
    with httpx.Client(trust_env=False, timeout=20) as client:
        reply = client.post(
            f"{upstream.base_url}/v1/messages", headers=HEADERS, content=b" " * (32 * 1024**2 + 1)
        )
    assert (reply.status_code, reply.json()["error"]["type"]) == (413, "request_too_large")
    upstream.received.clear()


def test_hello_answers_head(upstream):
    with httpx.Client(trust_env=False) as client:
        assert client.head(f"{upstream.base_url}/api/hello").status_code == 200


def test_directives_on_several_lines_are_read_as_one(upstream):
    headers = [*HEADERS.items(), ("x-simulate", "status=529"), ("x-simulate", "retry-after=7")]
    with httpx.Client(trust_env=False) as client:
        reply = client.post(f"{upstream.base_url}/v1/messages", headers=headers, json=ASK)
    assert (reply.status_code, reply.headers["retry-after"]) == (529, "7")


def test_a_server_in_a_loop_ends_with_a_stalled_exchange_open():
    async def leave_open():
        async with SimulatedAnthropic.running() as upstream, httpx.AsyncClient(trust_env=False) as client:
            headers = HEADERS | {"x-simulate": "stall"}
            waiting = asyncio.create_task(
                client.post(f"{upstream.base_url}/v1/messages", headers=headers, json=ASK)
            )
            await upstream.until_received(1)
        with pytest.raises(httpx.TransportError):
            await client_ended(waiting)

    async def client_ended(waiting):
        async with asyncio.timeout(5):
            return await waiting

    asyncio.run(leave_open())


def start_process(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "services.local.anthropic", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_process_serves_and_stops_at_once_on_sigterm():
    process = start_process("--port", "0", "--api-key", "right")
    try:
        port = process.stdout.readline().split("port=")[1].split()[0]
        with httpx.Client(trust_env=False) as client:
            url = f"http://127.0.0.1:{port}/v1/messages"
            right = client.post(url, headers=HEADERS | {"x-api-key": "right"}, json=ASK)
            wrong = client.post(url, headers=HEADERS, json=ASK)
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_SECONDS_MAX) == 0
        assert time.monotonic() - started < STOP_SECONDS_MAX
        assert (right.status_code, wrong.status_code) == (200, 401)
    finally:
        process.kill()
        process.communicate()


def test_a_process_refuses_a_port_in_use_in_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start_process("--port", str(port))
        _, complaint = process.communicate(timeout=20)
    assert process.returncode == 2
    assert complaint == (
        f"The simulated Anthropic API cannot listen on 127.0.0.1:{port}: Address already in use.\n"
    )


def test_an_upload_that_is_too_long_for_memory_comes_back_byte_for_byte(upstream):
    content = random.Random(20261122).randbytes(40 * 1024**2)
    with httpx.Client(trust_env=False, timeout=60, headers=HEADERS, base_url=upstream.base_url) as client:
        file = client.post("/v1/files", files={"file": ("big.bin", content)}).json()
        back = client.get(f"/v1/files/{file['id']}/content")
    assert back.headers["content-length"] == str(len(content))
    assert hashlib.sha256(back.content).digest() == hashlib.sha256(content).digest()
    assert (upstream.received[0].body, upstream.received[0].body_bytes > len(content)) == (b"", True)


def test_a_download_is_cut_off_after_so_many_bytes(upstream):
    with httpx.Client(trust_env=False, timeout=20, headers=HEADERS, base_url=upstream.base_url) as client:
        file = client.post("/v1/files", files={"file": ("a.bin", b"x" * 200_000)}).json()
        cut = {"x-simulate": "cut-after-bytes=100000"}
        received = b""
        with (
            pytest.raises(httpx.RemoteProtocolError),
            client.stream("GET", f"/v1/files/{file['id']}/content", headers=cut) as reply,
        ):
            for piece in reply.iter_raw():
                received += piece
    assert received == b"x" * 100_000


def test_two_servers_give_no_id_twice(upstream):
    with SimulatedAnthropic.in_thread() as other, httpx.Client(trust_env=False, headers=HEADERS) as client:
        url = "/v1/messages"
        ids = [
            client.post(each.base_url + url, json=ASK | {"stream": False}).json()["id"]
            for each in (upstream, other)
        ]
        assert [entry.message_id for each in (upstream, other) for entry in each.served] == ids
    assert len(set(ids)) == 2
