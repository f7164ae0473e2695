"""Receives from the client: its body, and that it hung up, with what then becomes of the answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import httpx

from schemas.keys import OnDisconnect
from services.edge.body_memory import BodyLease
from services.edge.config import DrainConfig
from services.runtime import metrics

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


# For a body that is read before it goes up: 32 MiB at 1 Mbit/s.
BODY_S_MAX = 300.0


class ClientGone(Exception):
    """The client hung up before its request was complete."""


class BodyTooSlow(Exception):
    """The request's body did not come to its end in time, or not on."""


BodyFault = ClientGone | BodyTooSlow


class BodyTooLarge(Exception):
    """The request's body goes beyond what is read before it goes up."""


async def whole_body(
    receive: Receive, bytes_max: int, lease: BodyLease, seconds_max: float = BODY_S_MAX
) -> bytes:
    """Read a request's body to its end, or say why there is none.

    ClientGone, BodyTooLarge, BodyTooSlow, or MemoryFull where the lease cannot grow with it.
    """
    try:
        async with asyncio.timeout(seconds_max):
            return await _read_whole(receive, bytes_max, lease)
    except TimeoutError as exc:
        raise BodyTooSlow from exc


async def _read_whole(receive: Receive, bytes_max: int, lease: BodyLease) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > bytes_max:
            raise BodyTooLarge
        lease.grow(len(piece))
        pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class PassingBody(httpx.AsyncByteStream):
    """A request's body that goes up as it comes in; `fault` is why it came to no end."""

    def __init__(self, receive: Receive, silence_s_max: float) -> None:
        self._receive = receive
        self._silence_s_max = silence_s_max
        self._end = asyncio.Event()
        self.fault: BodyFault | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._end.is_set():
            message = await self._next()
            if message["type"] == "http.disconnect":
                raise self._broken_off(ClientGone())
            if not message.get("more_body", False):
                self._end.set()
            piece: bytes = message.get("body", b"")
            if piece:
                yield piece

    async def _next(self) -> MutableMapping[str, Any]:
        try:
            async with asyncio.timeout(self._silence_s_max):
                return await self._receive()
        except TimeoutError as exc:
            raise self._broken_off(BodyTooSlow()) from exc

    def _broken_off(self, fault: BodyFault) -> BodyFault:
        self.fault = fault
        self._end.set()
        return fault

    async def receive_behind(self) -> MutableMapping[str, Any]:
        """Receive what comes behind the body's end, so that two never wait for one message.

        Its fault where the body has no end: the answer may have begun, and nobody else would end that.
        """
        await self._end.wait()
        if self.fault is not None:
            raise self.fault
        return await self._receive()


class Drains:
    """Counts the answers that are read on without a client."""

    def __init__(self, config: DrainConfig) -> None:
        self.config = config
        self.running = 0

    def seconds_for_one_more(self, on_disconnect: OnDisconnect = "") -> float:
        """Say how long one more may take, 0 where it must be cancelled at once; a key's word goes first."""
        is_room = self.running < self.config.exchanges_max
        is_drained = (on_disconnect or self.config.on_disconnect) == "drain"
        return self.config.seconds_max if is_drained and is_room else 0.0


class ClientWatch:
    """Notices that the client hung up, and from then on limits the time that its answer may take.

    To be used as a context manager around the answer; `limit` is the time-out that encloses it.
    """

    def __init__(
        self,
        receive: Receive,
        limit: asyncio.Timeout,
        drains: Drains,
        on_disconnect: OnDisconnect = "",
    ) -> None:
        self._receive = receive
        self._on_disconnect: OnDisconnect = on_disconnect
        self._limit = limit
        self._drains = drains
        self._task: asyncio.Task[None] | None = None
        self.is_gone = False

    def __enter__(self) -> "ClientWatch":
        self._task = asyncio.create_task(self._wait())
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
        if self.is_gone:
            self._drains.running -= 1
            metrics.edge_drains.labels("limit" if self._limit.expired() else "end").inc()

    async def _wait(self) -> None:
        try:
            message = await self._receive()
            while message["type"] != "http.disconnect":
                message = await self._receive()
            seconds = self._drains.seconds_for_one_more(self._on_disconnect)
        except ClientGone:
            seconds = 0.0  # what upstream waits for will not come
        except BodyTooSlow:
            self._end_within(0.0)  # the same; but the client is there, and can be told
            return
        self.is_gone = True
        self._drains.running += 1
        self._end_within(seconds)

    def _end_within(self, seconds: float) -> None:
        end_at = asyncio.get_running_loop().time() + seconds
        limit_at = self._limit.when()
        self._limit.reschedule(end_at if limit_at is None else min(limit_at, end_at))
