"""Watches whether the client is still there, and decides what becomes of the answer when it is not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import httpx

from services.edge.config import DrainConfig
from services.runtime import metrics

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


# For a body that is read before it goes up: 32 MiB at 1 Mbit/s.
BODY_S_MAX = 300.0


class ClientGone(Exception):
    """The client hung up before its request was complete."""


class BodyTooSlow(Exception):
    """The request's body did not come to its end within BODY_S_MAX."""


class BodyTooLarge(Exception):
    """The request's body goes beyond what is read before it goes up."""


async def whole_body(receive: Receive, bytes_max: int) -> bytes:
    """Read a request's body to its end; ClientGone, BodyTooLarge and BodyTooSlow where there is none."""
    try:
        async with asyncio.timeout(BODY_S_MAX):
            return await _read_whole(receive, bytes_max)
    except TimeoutError as exc:
        raise BodyTooSlow from exc


async def _read_whole(receive: Receive, bytes_max: int) -> bytes:
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
        pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class PassingBody(httpx.AsyncByteStream):
    """A request's body that goes up as it comes in; `is_read` once its end has passed."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_read = False
        self.client_is_gone = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self.is_read:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.client_is_gone = True
                raise ClientGone
            self.is_read = not message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            if piece:
                yield piece


class Drains:
    """Counts the answers that are read on without a client."""

    def __init__(self, config: DrainConfig) -> None:
        self._config = config
        self.running = 0

    def seconds_for_one_more(self) -> float:
        """Say how long a new one may take; 0 where it must be cancelled at once."""
        is_room = self.running < self._config.exchanges_max
        return self._config.seconds_max if self._config.on_disconnect == "drain" and is_room else 0.0


class ClientWatch:
    """Notices that the client hung up, and from then on limits the time that its answer may take.

    To be used as a context manager around the answer; `limit` is the time-out that encloses it.
    """

    def __init__(self, receive: Receive, limit: asyncio.Timeout, drains: Drains) -> None:
        self._receive = receive
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
        message = await self._receive()
        while message["type"] != "http.disconnect":
            message = await self._receive()
        seconds = self._drains.seconds_for_one_more()
        self.is_gone = True
        self._drains.running += 1
        now = asyncio.get_running_loop().time()
        limit_at = self._limit.when()
        self._limit.reschedule(now + seconds if limit_at is None else min(limit_at, now + seconds))
