"""Serves an ASGI application until the process is asked to stop, then lets what is open finish."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import Callable, Generator
from typing import Any, cast

import uvicorn

from services.runtime.http_protocol import BoundedProtocol, ConnectionLimits
from services.runtime.listener import BACKLOG, last_accepted, take_no_more

# Longer than load balancers keep an idle connection (60 s): they must never send on one that is closing.
KEEP_ALIVE_S = 75
# A server that is going waits so long for the request of a connection that has brought none yet.
FIRST_REQUEST_S_MAX = 1.0
# For the rest of a handshake whose first segment came; well below the second after which it is sent again.
HANDSHAKE_S_MAX = 0.3
LIMITS = ConnectionLimits()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own (runtime.service)."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take in who has connected and was not accepted yet: closing the listener would reset them."""
        listeners = [listener.dup() for listener in sockets or ()]
        for listener in listeners:
            take_no_more(listener)
        await asyncio.sleep(HANDSHAKE_S_MAX)
        for server in self.servers:
            server.close()
        await asyncio.sleep(0)  # the event loop lets go of its own descriptors
        loop = asyncio.get_running_loop()
        for connection in [each for listener in listeners for each in last_accepted(listener)]:
            await loop.connect_accepted_socket(self._connection, connection)
        await super().shutdown(sockets)

    def _connection(self) -> asyncio.Protocol:
        protocol = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


class _Connection(BoundedProtocol):
    """A connection that is not closed upon the first request that it came for."""

    _is_last = False

    def shutdown(self) -> None:
        """End where nothing is open; who has connected just now may still ask, and that is all."""
        if self._served is None and not self.transport.is_closing():
            self._is_last = True
            self.loop.call_later(FIRST_REQUEST_S_MAX, self._end_unused)
        else:
            super().shutdown()

    def on_headers_complete(self) -> None:
        """Serve the request, and nothing behind it on a server that is going."""
        super().on_headers_complete()
        if self._is_last:
            self.cycle.keep_alive = False

    def _end_unused(self) -> None:
        if self._served is None:
            self.transport.close()


async def serve(
    app: Any,
    listener: socket.socket,
    stopping: asyncio.Event,
    drain_s_max: int,
    limits: ConnectionLimits = LIMITS,
) -> None:
    """Serve until `stopping` is set; then accept no more and give open exchanges `drain_s_max` seconds."""
    config = uvicorn.Config(
        app,
        loop="none",
        http=cast("type[asyncio.Protocol]", functools.partial(_Connection, limits=limits)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=drain_s_max,
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as tasks:
        stopper = tasks.create_task(_stop_when(server, stopping))
        await server.serve(sockets=[listener])
        stopper.cancel()


async def _stop_when(server: uvicorn.Server, stopping: asyncio.Event) -> None:
    await stopping.wait()
    server.should_exit = True
