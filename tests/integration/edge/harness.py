"""An edge in a thread of its own, its spool read as another process would; and a scripted upstream."""

import asyncio
import contextlib
import socket
import threading
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import pytest

from schemas import codec, topics
from schemas.batches import BatchFact
from schemas.ids import new_edge_id
from schemas.requests import RequestStarted
from schemas.responses import ResponseFinished
from schemas.usage import UsageRecorded
from services.edge.app import Gateway, create_app
from services.edge.client import Drains
from services.edge.config import EdgeConfig
from services.edge.forward import Forwarder
from services.edge.recorder import Recorder
from services.edge.transport import AiohttpTransport
from services.runtime.http import LIMITS, serve
from services.runtime.listener import bind
from services.runtime.records import OutgoingRecord
from services.runtime.spool.frames import ADDED, CLOSED, HEAD, OPENED
from services.runtime.spool.segment import scanned, segment_paths
from services.runtime.spool.store import Spool

WAIT_S_MAX = 10.0
_RECORDS = msgspec.msgpack.Decoder(tuple[OutgoingRecord, ...])
_STRUCTS = {
    topics.REQUESTS: RequestStarted,
    topics.RESPONSES: ResponseFinished,
    topics.USAGE: UsageRecorded,
    topics.BATCH_FACTS: BatchFact,
}


class Exchanged(NamedTuple):
    """Every event of one exchange in order, by kind; as they will be published."""

    started: RequestStarted
    finished: ResponseFinished
    used: UsageRecorded
    added: tuple[BatchFact | UsageRecorded, ...] = ()


class _Bell:
    """Stands where the pump stands: is woken by every opening and closing, and publishes nothing."""

    def __init__(self):
        self.rung = threading.Condition()

    def wake(self):
        with self.rung:
            self.rung.notify_all()


class _WatchedDrains(Drains):
    """Says when the edge has noticed that a client is gone."""

    def __init__(self, config):
        super().__init__(config)
        self.noticed = threading.Semaphore(0)

    def seconds_for_one_more(self, on_disconnect=""):
        seconds = super().seconds_for_one_more(on_disconnect)
        self.noticed.release()
        return seconds


class Edge:
    """One edge; use as a context manager."""

    def __init__(self, directory, config: EdgeConfig, limits=LIMITS, **transport_limits):
        self.config = config
        self._limits = limits
        self._transport_limits = transport_limits
        self.directory = Path(directory)
        self.spool = Spool(self.directory, config.spool.bytes_max)
        self.drains = _WatchedDrains(config.drain)
        self.edge_id = new_edge_id()
        self._bell = _Bell()
        self._taken = 0
        self._listener = bind("127.0.0.1", 0)
        self.port = self._listener.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._loop = None
        self._stopping = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self):
        upstream = self.config.upstream
        transport = AiohttpTransport(
            upstream.base_url,
            connect_s_max=upstream.connect_s_max,
            read_s_max=upstream.read_s_max,
            connections_max=upstream.connections_max,
            **self._transport_limits,
        )
        forwarder = Forwarder(transport, self.drains, upstream.total_s_max)
        self.gateway = Gateway(self.config, self.edge_id, Recorder(self.spool, self._bell), forwarder)
        app = create_app(self.gateway, lambda: {"spool": not self.spool.is_full})
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await serve(app, self._listener, self._stopping, 1, self._limits)
        await transport.aclose()

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(WAIT_S_MAX)
        return self

    def __exit__(self, *_):
        self.stop()
        self.spool.close()

    def stop(self):
        """Stop as on SIGTERM, with a second for what is open; what is in the spool can still be taken."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(WAIT_S_MAX)

    def entries(self):
        """Everything on disk as (seq, exchange, stage, records), read past the edge."""
        frames = [each for path in segment_paths(self.directory) for each in scanned(path).frames]
        return [
            (each.seq, each.exchange, each.kind, _RECORDS.decode(each.blob))
            for each in frames
            if each.kind < HEAD
        ]

    def take(self):
        """The exchanges since the last call, in the order of their openings, once all of them are closed."""
        with self._bell.rung:
            assert self._bell.rung.wait_for(self._is_settled, WAIT_S_MAX), "an exchange did not end"
        new = [entry for entry in self.entries() if entry[0] > self._taken]
        self._taken = max((seq for seq, *_ in new), default=self._taken)
        exchanges = dict.fromkeys(exchange for _, exchange, _, _ in new)
        return [_exchanged([entry for entry in new if entry[1] == exchange]) for exchange in exchanges]

    def pass_over(self):
        """Take no notice of what is on disk so far."""
        self._taken = max((seq for seq, *_ in self.entries()), default=self._taken)

    def take_one(self):
        """The only exchange since the last call."""
        (exchanged,) = self.take()
        return exchanged

    def _is_settled(self):
        stages = [stage for _, _, stage, _ in self.entries()]
        return stages.count(OPENED) == stages.count(CLOSED)

    def until_client_is_missed(self):
        """Wait until the edge has noticed that a client is gone."""
        assert self.drains.noticed.acquire(timeout=WAIT_S_MAX)


def _exchanged(entries):
    """Check the order of the appends and what all records must share; then give the three events."""
    stages = [stage for _, _, stage, _ in entries]
    assert [stage for stage in stages if stage != ADDED] in ([1, 3], [1, 2, 3])
    assert stages[-1] == CLOSED
    added = [record for _, _, stage, each in entries if stage == ADDED for record in each]
    records = [record for _, _, stage, each in entries if stage not in (2, ADDED) for record in each]
    assert [record.topic for record in records] == [topics.REQUESTS, topics.RESPONSES, topics.USAGE]
    started, finished, used = (codec.decode(_STRUCTS[record.topic], record.value) for record in records)
    request_id = entries[0][1]
    assert {started.request_id, finished.request_id, used.request_id} == {request_id}
    assert (
        started.started_at
        == finished.started_at
        == used.started_at
        <= finished.finished_at
        == used.finished_at
    )
    assert used.source_seq == entries[-1][0]
    assert 0 <= used.ttfb_ms <= used.duration_ms < WAIT_S_MAX * 1000
    return Exchanged(
        started, finished, used, tuple(codec.decode(_STRUCTS[each.topic], each.value) for each in added)
    )


def usage_of(exchanged, **expected):
    """The usage record that is expected: given members, and those that no test can know."""
    actual = exchanged.used
    unknowable = (
        *("request_id", "started_at", "finished_at", "edge_id", "exchange_seq"),
        *("source_id", "source_seq", "ttfb_ms", "duration_ms", "overhead_us"),
    )
    ordinary = {
        "operation": "messages",
        "endpoint": "/v1/messages",
        "is_stream": False,
        "outcome": "completed",
        "usage_status": "none",
        "http_status": 200,
        "attribution": actual.attribution,
    }
    return UsageRecorded(**{**ordinary, **expected, **{name: getattr(actual, name) for name in unknowable}})


class UpstreamConnection:
    """One connection that the edge made; the test says what comes back on it, and when."""

    def __init__(self, connection):
        self._connection = connection
        self.next_request()

    def next_request(self):
        """Read the head of the first request, and later of another on the same connection."""
        self.request = b""
        while b"\r\n\r\n" not in self.request:
            piece = self._connection.recv(65536)
            assert piece, "the edge closed before a request"
            self.request += piece

    def read_body(self, size):
        """Read so many bytes behind the head, and give them."""
        body = self.request.partition(b"\r\n\r\n")[2]
        while len(body) < size:
            piece = self._connection.recv(1 << 20)
            assert piece, "the edge closed before the body's end"
            body += piece
        return body

    def discard_body(self, size):
        """Read so many bytes behind the head without keeping them, and give their number."""
        seen = len(self.request.partition(b"\r\n\r\n")[2])
        while seen < size:
            piece = len(self._connection.recv(1 << 20))
            assert piece, "the edge closed before the body's end"
            seen += piece
        return seen

    def push(self, piece, stalled_s):
        """Send the piece again and again until nobody takes more of it; give how many bytes went."""
        return _pushed(self._connection, piece, stalled_s)

    def send(self, data):
        self._connection.sendall(data)

    def send_chunk(self, data):
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def close(self):
        self._connection.close()

    def reset(self):
        """Break the connection as a crashed host does."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._connection.close()

    def until_closed(self):
        """Wait until the edge has closed its side."""
        with contextlib.suppress(ConnectionResetError):
            while self._connection.recv(65536):
                pass


class ScriptedUpstream:
    """A listening socket, and each connection in the test's own hands."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(WAIT_S_MAX)
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def accept(self):
        return UpstreamConnection(self.accept_bare())

    def accept_bare(self):
        """The socket of a connection, whatever comes on it."""
        connection, _ = self._listener.accept()
        connection.settimeout(WAIT_S_MAX)
        return connection

    def expect_nobody(self):
        """Check that no connection waits to be accepted."""
        self._listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            self._listener.accept()

    def close(self):
        self._listener.close()


def _pushed(connection, piece, stalled_s):
    connection.settimeout(stalled_s)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while True:
            sent += connection.send(piece)
    connection.settimeout(WAIT_S_MAX)
    return sent


class RawClient:
    """A client on a bare socket: writes and reads exact bytes, and leaves when it is told to."""

    def __init__(self, edge):
        self._socket = socket.create_connection(("127.0.0.1", edge.port), timeout=WAIT_S_MAX)
        self.received = b""

    def send(self, data):
        self._socket.sendall(data)

    def post(self, path, body, *headers):
        head = [b"POST " + path + b" HTTP/1.1", b"host: edge", *headers, b"content-length: %d" % len(body)]
        self.send(b"\r\n".join(head) + b"\r\n\r\n" + body)

    def read_until(self, marker, seconds=WAIT_S_MAX):
        self._socket.settimeout(seconds)
        while marker not in self.received:
            piece = self._socket.recv(65536)
            assert piece, f"the edge closed before {marker!r}: {self.received!r}"
            self.received += piece
        return self.received

    def read_to_end(self):
        while piece := self._socket.recv(65536):
            self.received += piece
        return self.received

    def push(self, piece, stalled_s):
        """Send the piece again and again until nobody takes more of it; give how many bytes went."""
        return _pushed(self._socket, piece, stalled_s)

    def discard_to_end(self):
        """Read on to the end and give the number of bytes."""
        return sum(iter(lambda: len(self._socket.recv(1 << 20)), 0))

    def leave(self, *, resetting=False):
        """Hang up; `resetting` as a client does that is killed, or has not read everything."""
        if resetting:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._socket.close()


def plain_client():
    """An httpx client that takes no settings from outside."""
    return httpx.Client(trust_env=False, timeout=WAIT_S_MAX)


def exchange(client, method, url, headers, content=None):
    """Send exactly these headers; give the answer with its body still encoded."""
    request = httpx.Request(method, url, headers=headers, content=content)
    answer = client.send(request, stream=True)
    body = b"".join(answer.iter_raw())
    answer.close()
    return answer, body
