"""Serves an ASGI application until the process is asked to stop, then lets what is open finish."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import Generator
from typing import Any, cast

import uvicorn

from services.runtime.errors import StartRefused
from services.runtime.http_protocol import BoundedProtocol, ConnectionLimits

BACKLOG = 2048
# Longer than load balancers keep an idle connection (60 s): they must never send on one that is closing.
KEEP_ALIVE_S = 75
LIMITS = ConnectionLimits()
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own (runtime.service)."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """Take the address before anything else is started; StartRefused where it is not to be had."""
    try:
        listener = listening(host, port, BACKLOG)
    except OSError as exc:
        raise StartRefused(f"cannot listen on {host}:{port}: {exc.strerror}.") from exc
    listener.setblocking(False)
    return listener


def listening(host: str, port: int, backlog: int) -> socket.socket:
    """Give a socket that listens, for whoever has words of its own for the OSError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: event loops switch Nagle's delay off only for sockets that say they are TCP,
    # and it costs every answer on a reused connection 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


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
        http=cast("type[asyncio.Protocol]", functools.partial(BoundedProtocol, limits=limits)),
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
