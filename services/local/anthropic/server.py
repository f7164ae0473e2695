"""Runs the simulated API on a socket, in the caller's event loop or in its own thread; decides no reply."""

import asyncio
import errno
import os
import random
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import uvloop
from uvicorn.config import Config
from uvicorn.server import ServerState

from services.local.anthropic.api import SEED_MAX, Api
from services.local.anthropic.app import SimulatedAnthropicApp
from services.local.anthropic.books import Served
from services.local.anthropic.clock import Clock
from services.local.anthropic.recording import FinishedExchange, KeepLast, ReceivedRequest, Recorder
from services.local.anthropic.reply import CannedReply
from services.local.anthropic.wire import WireProtocol
from services.runtime.errors import StartRefused
from services.runtime.listener import listening

KEEP_ALIVE_SECONDS = 75  # longer than the pools of clients keep an idle connection
CONNECTIONS_WAITING_MAX = 2_048
THREAD_START_SECONDS_MAX = 10.0
THREAD_STOP_SECONDS_MAX = 5.0
STOP_SECONDS_MAX = 1.0  # so that the process stops within two
WAIT_SECONDS = 5.0  # how long a test waits for what should happen at once


class SimulatedAnthropic:
    """A simulated Anthropic API that is listening, with what it received and a queue of prepared replies."""

    def __init__(self, base_url: str, api: Api, recorder: KeepLast, canned: deque[CannedReply]) -> None:
        self.base_url = base_url
        self._api = api
        self._recorder = recorder
        self._canned = canned

    @classmethod
    @asynccontextmanager
    async def running(
        cls, *, api_key: str | None = None, seed: int | None = None, clock: Clock = time.time
    ) -> AsyncGenerator["SimulatedAnthropic", None]:
        """Serve on a free loopback port in this event loop until the block ends."""
        listener = listen("127.0.0.1", 0)
        recorder, canned = KeepLast(), deque[CannedReply]()
        api = Api(api_key=api_key, seed=seed_or_new(seed), base_url=base_url_of(listener), clock=clock)
        async with serving(listener, api, recorder, canned):
            yield cls(base_url_of(listener), api, recorder, canned)

    @classmethod
    @contextmanager
    def in_thread(
        cls, *, api_key: str | None = None, seed: int | None = None, clock: Clock = time.time
    ) -> Generator["SimulatedAnthropic", None, None]:
        """Serve on a free loopback port in a thread of its own until the block ends."""
        listener = listen("127.0.0.1", 0)
        recorder, canned = KeepLast(), deque[CannedReply]()
        base_url = base_url_of(listener)
        api = Api(api_key=api_key, seed=seed_or_new(seed), base_url=base_url, clock=clock)
        thread = _ServingThread(listener, api, recorder, canned)
        thread.start()
        try:
            yield cls(base_url, api, recorder, canned)
        finally:
            thread.stop()

    @property
    def received(self) -> deque[ReceivedRequest]:
        """The last requests, oldest first."""
        return self._recorder.requests

    @property
    def finished(self) -> deque[FinishedExchange]:
        """How the last exchanges ended, in the order of their ends."""
        return self._recorder.exchanges

    @property
    def served(self) -> list[Served]:
        """What would be on the bill so far: messages, then the items of batches that have ended."""
        return list(self._api.served())

    def advance(self, seconds: float) -> None:
        """Put the simulation's clock forward, so that batches end, expire or are archived."""
        self._api.advance(seconds)

    def finish_batch(self, batch_id: str) -> None:
        """Bring one batch to its end now."""
        self._api.finish_batch(batch_id)

    def reply_next(self, *replies: CannedReply) -> None:
        """Send these to the next requests, one each, in place of simulated answers."""
        self._canned.extend(replies)

    def wait_received(self, count: int, timeout_seconds: float = WAIT_SECONDS) -> None:
        """Block this thread until `count` requests have arrived in all: for a server in another thread."""
        self._recorder.wait_received(count, timeout_seconds)

    def wait_finished(self, count: int, timeout_seconds: float = WAIT_SECONDS) -> None:
        """Block this thread until `count` exchanges have ended in all: for a server in another thread."""
        self._recorder.wait_finished(count, timeout_seconds)

    async def until_received(self, count: int, timeout_seconds: float = WAIT_SECONDS) -> None:
        """Wait until `count` requests have arrived in all, and let this event loop go on."""
        await asyncio.to_thread(self.wait_received, count, timeout_seconds)

    async def until_finished(self, count: int, timeout_seconds: float = WAIT_SECONDS) -> None:
        """Wait until `count` exchanges have ended in all, and let this event loop go on."""
        await asyncio.to_thread(self.wait_finished, count, timeout_seconds)


def listen(host: str, port: int) -> socket.socket:
    """Take the address, or refuse to start in one sentence."""
    try:
        return listening(host, port, CONNECTIONS_WAITING_MAX)
    except (OSError, OverflowError) as exc:
        # create_server writes the address into the system's words; the sentence has it already.
        number = exc.errno if isinstance(exc, OSError) else None
        named = number is not None and number in errno.errorcode
        reason = os.strerror(number or 0) if named else str(exc).rstrip(".")
        raise StartRefused(f"The simulated Anthropic API cannot listen on {host}:{port}: {reason}.") from exc


def seed_or_new(seed: int | None) -> int:
    """Take the seed that was asked for, or draw one, so that no two runs give the same ids by chance."""
    return random.randrange(SEED_MAX + 1) if seed is None else seed


@asynccontextmanager
async def serving(
    listener: socket.socket, api: Api, recorder: Recorder, canned: deque[CannedReply]
) -> AsyncGenerator[None, None]:
    """Serve on a socket until the block ends; then drop every connection at once."""
    # uvicorn's Server handles signals and waits for connections to end; its protocol alone does neither.
    config = Config(
        cast("Callable[..., Any]", SimulatedAnthropicApp(api, recorder, canned)),
        http=WireProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: WireProtocol(config, state, {}, loop), sock=listener, backlog=CONNECTIONS_WAITING_MAX
    )
    try:
        yield
    finally:
        server.close()
        for connection in list(state.connections):
            cast(WireProtocol, connection).transport.abort()
        if state.tasks:
            # Each of them finds its client gone; one that does not is left to the end of the loop.
            await asyncio.wait(state.tasks, timeout=STOP_SECONDS_MAX)


class _ServingThread:
    """Serves in a daemon thread with an event loop of its own."""

    def __init__(
        self, listener: socket.socket, api: Api, recorder: KeepLast, canned: deque[CannedReply]
    ) -> None:
        self._parts = (listener, api, recorder, canned)
        self._serving = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="simulated-anthropic", daemon=True)

    def start(self) -> None:
        self._thread.start()
        if not self._serving.wait(THREAD_START_SECONDS_MAX):
            raise StartRefused("The simulated Anthropic API did not start in its thread.")

    def stop(self) -> None:
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(THREAD_STOP_SECONDS_MAX)

    def _run(self) -> None:
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with serving(*self._parts):
            self._serving.set()
            await self._stopping.wait()


def base_url_of(listener: socket.socket) -> str:
    """Say where a client on this machine finds what listens here."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
