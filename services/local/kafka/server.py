"""Speaks with clients over loopback sockets, one request at a time per connection; decides nothing itself."""

import asyncio
import contextlib
import ipaddress
import os
import threading
import time
from typing import Generic, TypeVar

import structlog

from services.local.kafka import compaction, records, wire
from services.local.kafka.broker import Broker, BrokerSettings, now_ms
from services.local.kafka.coordination_messages import (
    JoinGroupRequest,
    JoinGroupResponse,
    SyncGroupRequest,
    SyncGroupResponse,
)
from services.local.kafka.errors import MalformedFrame, UnsupportedRequest
from services.local.kafka.members import Client
from services.local.kafka.messages import FetchRequest, FetchResponse, Message, ProduceRequest
from services.runtime.errors import StartRefused

CONNECTIONS_MAX = 1_000  # each may hold one frame of FRAME_BYTES_MAX; clients use a handful
FETCH_WAIT_MS_MAX = 5 * 60_000  # consumers ask for half a second
TRANSFER_S_MAX = 60.0  # for one frame over loopback; beyond it the client hangs
# Answers that their clients have not read yet. Beyond it each fetch gets one batch, until others have read.
UNREAD_BYTES_MAX = 256 * 1024**2
RETENTION_INTERVAL_S = 30.0  # Kafka looks every five minutes; a laptop's log is small
_READ_BUFFER_BYTES = 1024**2
_WRITE_BUFFER_BYTES = 1024**2

_log = structlog.get_logger(__name__)
Answer = TypeVar("Answer", bound=Message)


class KafkaServer:
    """A broker that listens. `start`, then `stop`; both may be awaited only once."""

    def __init__(self, settings: BrokerSettings, retention_interval_s: float = RETENTION_INTERVAL_S) -> None:
        self._settings = settings
        self._retention_interval_s = retention_interval_s
        self._connections: set[asyncio.Task[None]] = set()
        self._unread_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = float("inf")
        self._stopping = threading.Event()
        self._address = ("", 0)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that clients connect to."""
        return self._address

    async def start(self, host: str, port: int) -> None:
        """Listen on a loopback address; port 0 takes a free one."""
        if not _is_loopback(host):
            raise StartRefused(
                f"The local Kafka listens on loopback only, and {host} is not a loopback address."
            )
        self.broker = Broker(self._settings)
        try:
            self._server = await asyncio.start_server(self._connected, host, port, limit=_READ_BUFFER_BYTES)
        except OSError as exc:
            self.broker.close()
            reason = os.strerror(exc.errno) if exc.errno else str(exc)
            raise StartRefused(f"The port {port} on {host} cannot be listened on: {reason}.") from exc
        self._address = (host, self._server.sockets[0].getsockname()[1])
        self.broker.advertise(*self._address)
        self._maintenance = asyncio.create_task(self._maintain())
        _log.info("kafka.started", host=host, port=self._address[1], topics=len(self.broker.topics.names()))

    async def stop(self) -> None:
        """Cut every connection and close every file."""
        self._server.close()
        self._stopping.set()
        self._maintenance.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(self._maintenance, *self._connections, return_exceptions=True)
        self.broker.close()
        _log.info("kafka.stopped")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= CONNECTIONS_MAX:
            _log.warning("connection.refused", connections=len(self._connections))
            writer.close()
            return
        self._connections.add(task)
        writer.transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went
        except TimeoutError:
            _log.warning("connection.hung", seconds=TRANSFER_S_MAX)
        except asyncio.CancelledError:
            pass  # the server is stopping, and nobody awaits this task's result
        except UnsupportedRequest as exc:
            _log.warning("request.unsupported", request=str(exc))
        except MalformedFrame as exc:
            _log.warning("frame.malformed", reason=str(exc))
        except Exception:
            # A fault of this broker's own must cost one connection, not the log of every other client.
            _log.exception("request.failed")
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = writer.get_extra_info("peername")[0]
        head = _Head(reader)
        try:
            while True:
                frame = await _received(reader, await head.read())
                client = Client(
                    client_id=frame.client_id, host=f"/{host}", is_told_its_id=frame.tells_member_ids
                )
                # Nobody here holds on to an answer: while its client does not read, once in memory is enough.
                answer = wire.encode_response(frame, await self._answer(frame, client, head))
                if isinstance(frame.request, ProduceRequest) and not frame.request.required_acks:
                    continue  # the producer asked for no answer
                writer.write(answer)
                answer_bytes = len(answer)
                del answer
                await self._sent(writer, answer_bytes)
        finally:
            head.close()

    async def _sent(self, writer: asyncio.StreamWriter, answer_bytes: int) -> None:
        """Wait until a client has read its answer, but not for ever."""
        self._unread_bytes += answer_bytes
        try:
            async with asyncio.timeout(TRANSFER_S_MAX):
                await writer.drain()
        except TimeoutError:
            writer.transport.abort()  # to close would be to wait on for a client that does not read
            raise
        finally:
            self._unread_bytes -= answer_bytes

    async def _answer(self, frame: wire.RequestFrame, client: Client, head: "_Head") -> Message:
        request = frame.request
        if isinstance(request, FetchRequest):
            return await self._fetch(request, head)
        if isinstance(request, JoinGroupRequest):
            return await self._join(request, client, head)
        if isinstance(request, SyncGroupRequest):
            return await self._sync(request, head)
        response = self.broker.answer(request)
        if not isinstance(request, ProduceRequest):
            self._arm_timer()
        return response

    async def _fetch(self, request: FetchRequest, head: "_Head") -> FetchResponse:
        """Answer when there is enough to read or the wait is over; only an append wakes the wait."""
        wait_ms = min(request.max_wait_time, FETCH_WAIT_MS_MAX)
        deadline_s = time.monotonic() + wait_ms / 1_000
        loop = asyncio.get_running_loop()
        while True:
            bytes_max = min(records.FETCH_BYTES_MAX, max(UNREAD_BYTES_MAX - self._unread_bytes, 0))
            outcome = records.fetch(self.broker.topics, request, bytes_max)
            left_s = deadline_s - time.monotonic()
            if outcome.is_final or left_s <= 0:
                return outcome.response
            woken: asyncio.Future[None] = loop.create_future()
            wake = _Wake(woken)
            for log in outcome.logs:
                log.wait(wake)
            try:
                await head.unless_gone(woken, left_s)
            finally:
                for log in outcome.logs:
                    log.stop_waiting(wake)

    async def _join(self, request: JoinGroupRequest, client: Client, head: "_Head") -> JoinGroupResponse:
        answer: _Reply[JoinGroupResponse] = _Reply()
        self.broker.coordinator.join(request, client, answer.give, time.monotonic())
        self._arm_timer()
        await head.unless_gone(answer.future)
        return answer.future.result()

    async def _sync(self, request: SyncGroupRequest, head: "_Head") -> SyncGroupResponse:
        answer: _Reply[SyncGroupResponse] = _Reply()
        self.broker.coordinator.sync(request, answer.give, time.monotonic())
        self._arm_timer()
        await head.unless_gone(answer.future)
        return answer.future.result()

    def _arm_timer(self) -> None:
        """Have the broker look at its clocks when the next one runs out, and not before."""
        due_s = self.broker.next_deadline_s()
        if due_s is None or (self._timer is not None and self._timer_due_s <= due_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due_s = due_s
        delay_s = max(due_s - time.monotonic(), 0.0)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.broker.on_time()
        self._arm_timer()

    async def _maintain(self) -> None:
        """Expire and compact, one partition at a time."""
        while True:
            await asyncio.sleep(self._retention_interval_s)
            for log in self.broker.topics.logs():
                if log.closed:
                    continue
                try:
                    log.expire(now_ms())
                    await self._compact(compaction.plan(log, now_ms()))
                except OSError as exc:
                    _log.error("log.maintenance_failed", directory=log.directory.name, error=str(exc))
                await asyncio.sleep(0)

    async def _compact(self, plan: compaction.Plan | None) -> None:
        if plan is None:
            return
        result = await asyncio.to_thread(compaction.rewrite, plan, self._stopping)
        compaction.install(plan, result, now_ms())


class _Head:
    """Reads a connection's next head, also while an answer waits: so it is learnt that the client went."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._reading: asyncio.Task[bytes] | None = None

    async def read(self) -> bytes:
        """Give the next frame's head; IncompleteReadError where there is none."""
        if self._reading is None:
            return await self._reader.readexactly(wire.FRAME_HEAD_BYTES)
        head = await self._reading
        self._reading = None
        return head

    async def unless_gone(
        self, waited: asyncio.Future[Answer] | asyncio.Future[None], timeout_s: float | None = None
    ) -> None:
        """Wait for the future, but raise when the client goes: nobody is left to be answered."""
        if waited.done():
            return
        if self._reading is None:
            self._reading = asyncio.create_task(self._reader.readexactly(wire.FRAME_HEAD_BYTES))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.wait((waited, self._reading), return_when=asyncio.FIRST_COMPLETED)
                if self._reading.done():
                    self._reading.result()  # raises where the client has gone; else it asks for more already
                    await asyncio.wait((waited,))

    def close(self) -> None:
        """Stop reading."""
        reading = self._reading
        if reading is not None and not reading.cancel() and not reading.cancelled():
            reading.exception()  # what ended the connection has been told already


async def _received(reader: asyncio.StreamReader, head: bytes) -> wire.RequestFrame:
    """Read the rest of a frame."""
    async with asyncio.timeout(TRANSFER_S_MAX):
        rest = await reader.readexactly(wire.bytes_after(head))
    return wire.decode_request(head[wire.LENGTH_BYTES :] + rest)


class _Wake:
    """A callback that resolves a future once."""

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    def __call__(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


class _Reply(Generic[Answer]):
    """A future that a group may answer at any time, even when its client has gone."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def give(self, answer: Answer) -> None:
        if not self.future.done():
            self.future.set_result(answer)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
