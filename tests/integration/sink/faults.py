"""A ClickHouse that fails as a test says: an HTTP server before the real one, with a script for inserts."""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
from aiohttp import web

BODY_BYTES_MAX = 64 * 1024 * 1024
# SO_LINGER with no time: closing sends RST.
RESET = struct.pack("ii", 1, 0)

Fault = Callable[["Troubled", web.Request], Awaitable[web.StreamResponse]]
"""What becomes of one insert in place of its being passed on."""


class Troubled:
    """Passes everything on, but for the inserts that the script has a fault for, one after the other."""

    def __init__(self, url: str, *script: Fault) -> None:
        self._url = url
        self.script = deque(script)
        self.failed = 0
        self.tokens: list[str] = []
        self.may_go_on = asyncio.Event()

    @contextlib.asynccontextmanager
    async def url(self) -> AsyncIterator[str]:
        """Serve on a free port for the length of a block."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listener).start()
        async with aiohttp.ClientSession(auto_decompress=False) as self._client:
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                self.may_go_on.set()
                await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        token = request.query.get("insert_deduplication_token")
        if token is not None:
            self.tokens.append(token)
            if self.script:
                self.failed += 1
                return await self.script.popleft()(self, request)
        return await self.passed_on(request)

    async def passed_on(self, request: web.Request) -> web.Response:
        """Let the real one answer."""
        body = await request.read()
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in ("host", "content-length", "transfer-encoding")
        }
        url = f"{self._url}{request.path_qs}"
        async with self._client.request(request.method, url, headers=headers, data=body) as answer:
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in ("content-length", "transfer-encoding", "connection")
            }
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


def exception(code: int, name: str, status: int = 500) -> Fault:
    """Answer as ClickHouse does for an error, with a sentence that quotes a row."""

    async def fault(troubled: Troubled, request: web.Request) -> web.StreamResponse:
        await request.read()
        text = (
            f"Code: {code}. DB::Exception: it is not well, said row ('user-7', 41). ({name}) (version 26.9)\n"
        )
        return web.Response(status=status, text=text, headers={"X-ClickHouse-Exception-Code": str(code)})

    return fault


def page(status: int) -> Fault:
    """Answer as a load balancer does that finds nobody behind it."""

    async def fault(troubled: Troubled, request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(
            status=status, text="<html>no server is available</html>", content_type="text/html"
        )

    return fault


async def reset_within(troubled: Troubled, request: web.Request) -> web.StreamResponse:
    """Reset the connection before the insert has come in whole."""
    _reset(request)
    return web.Response()


async def reset_behind(troubled: Troubled, request: web.Request) -> web.StreamResponse:
    """Let the insert land, then reset the connection in place of the answer."""
    await troubled.passed_on(request)
    _reset(request)
    return web.Response()


async def answered_too_late(troubled: Troubled, request: web.Request) -> web.StreamResponse:
    """Let the insert land, and answer when the client no longer listens."""
    answer = await troubled.passed_on(request)
    await troubled.may_go_on.wait()
    return answer


async def landed_too_late(troubled: Troubled, request: web.Request) -> web.StreamResponse:
    """Let the insert land only when its repetition has: the slowest of servers."""
    await request.read()
    await troubled.may_go_on.wait()
    return await troubled.passed_on(request)


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        transport.abort()
