"""Carries one httpx request to the upstream over aiohttp, byte for byte, and its answer back as it came.

Nothing is added, merged, decoded, followed or remembered: the published httpx transports for aiohttp
normalise paths, join duplicate headers, add their own and keep cookies for later callers.
"""

import errno
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import aiohttp
import httpx
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from services.edge.headers import RawHeaders

_SKIP_AUTO_HEADERS = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE)
# Of a line of an answer's head; Anthropic's are below 1 KB.
HEAD_LINE_BYTES_MAX = 64 * 1024
# For a connection of the pool to come free; beyond it the client had better try another edge.
POOL_S_MAX = 30.0
# That a connection is kept without use: shorter than servers keep theirs, as one that upstream has just
# closed breaks under the request that takes it.
IDLE_S_MAX = 15.0
# Milliseconds; what the option below can hold.
_USER_TIMEOUT_MS_MAX = 2**31 - 1

# httpx wants an address with every request; only the target is looked at.
_URL = httpx.URL("http://upstream")


def request_up(
    method: str, target: bytes, headers: RawHeaders, stream: httpx.AsyncByteStream
) -> httpx.Request:
    """Put a request together for the transport; `target` is the raw path and query."""
    return httpx.Request(method, _URL, headers=list(headers), stream=stream, extensions={"target": target})


class UpstreamStream(httpx.AsyncByteStream):
    """The body of an answer, in the chunks that the socket gave; a fault of the wire is an httpx error."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except TimeoutError as exc:
            raise httpx.ReadTimeout(str(exc)) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise httpx.ReadError(str(exc)) from exc

    async def aclose(self) -> None:
        """Give the connection back, or close it where the body was not read to its end."""
        self._response.release()


class AiohttpTransport(httpx.AsyncBaseTransport):
    """A pool of connections to one upstream; to be called directly, without an httpx client around it.

    The request's own URL is not looked at: `extensions["target"]` is the raw path and query, as httpx
    defines it. Redirects are answers like any other.
    """

    def __init__(
        self,
        base_url: str,
        *,
        connect_s_max: float,
        read_s_max: float,
        connections_max: int,
        pool_s_max: float = POOL_S_MAX,
        idle_s_max: float = IDLE_S_MAX,
        head_line_bytes_max: int = HEAD_LINE_BYTES_MAX,
    ) -> None:
        self._origin = str(URL(base_url).origin())
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections_max,
                keepalive_timeout=idle_s_max,
                socket_factory=partial(_connecting, untaken_s_max=read_s_max),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=pool_s_max + connect_s_max,
                sock_connect=connect_s_max,
                sock_read=read_s_max,
            ),
            auto_decompress=False,
            trust_env=False,
            max_line_size=head_line_bytes_max,
            max_field_size=head_line_bytes_max,
            skip_auto_headers=_SKIP_AUTO_HEADERS,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and give the answer as soon as its head is there; httpx errors for the wire's.

        ConnectError and ConnectTimeout say that no byte of the request was sent; of any other error nobody
        knows how much of it upstream has. aiohttp itself sends a request once more whose connection is closed
        without an answer, if that may do no harm: never a POST, nor a body that can be read only once.
        """
        target: bytes = request.extensions["target"]
        body = request.stream
        headers = CIMultiDict(
            (name.decode("latin-1"), _header_text(value)) for name, value in request.headers.raw
        )
        try:
            response = await self._session.request(
                request.method,
                URL(self._origin + target.decode("ascii"), encoded=True),
                headers=headers,
                # An empty body is none: aiohttp would give a GET a content-length that nobody sent.
                data=body.content or None if isinstance(body, WholeBody) else body,
                allow_redirects=False,
            )
        except aiohttp.ConnectionTimeoutError as exc:
            raise httpx.ConnectTimeout(str(exc)) from exc
        except TimeoutError as exc:
            raise httpx.ReadTimeout(str(exc)) from exc
        except aiohttp.ClientConnectorError as exc:
            raise httpx.ConnectError(str(exc)) from exc
        except (aiohttp.ClientError, OSError) as exc:
            if isinstance(exc, OSError) and exc.errno == errno.ETIMEDOUT:
                raise httpx.WriteTimeout(str(exc)) from exc
            raise httpx.RemoteProtocolError(str(exc)) from exc
        if isinstance(body, WholeBody):
            body.release()
        return httpx.Response(
            response.status, headers=list(response.raw_headers), stream=UpstreamStream(response)
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()


def _connecting(address: Sequence[Any], untaken_s_max: float) -> socket.socket:
    """Make a socket on which no byte that was sent waits longer than this to be taken by the other side.

    The kernel keeps that time (tcp(7), TCP_USER_TIMEOUT): aiohttp has one for what it reads alone, which
    begins behind the request, and an upload that upstream takes no more of would have no end.
    """
    made = socket.socket(address[0], address[1], address[2])
    if sys.platform == "linux":
        milliseconds = max(int(min(untaken_s_max * 1000, _USER_TIMEOUT_MS_MAX)), 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    return made


def _header_text(value: bytes) -> str:
    """Give what aiohttp, which writes headers as UTF-8, turns into these bytes again."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")  # aiohttp has no way to write these bytes as they are


class WholeBody(httpx.AsyncByteStream):
    """A request body that is in memory, until its answer begins; sent with its length."""

    def __init__(self, content: bytes, released: Callable[[], None] = lambda: None) -> None:
        self.content = content
        self._released = released

    def release(self) -> None:
        """Hold the content no longer: an answer can take ten minutes, and needs it no more."""
        self.content = b""
        self._released()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content
