"""A door on a TCP connection that a test can cut, reset, stall or slow down; never looks at what passes."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

CONNECTIONS_MAX = 512  # of both services together some dozens; more is a leak, and a failure of the test
READ_BYTES_MAX = 65_536
SLOW_BYTES_PER_S = 20_000
SLOW_STEP_S = 0.05
# SO_LINGER with no time: closing sends RST, and drops what was not sent.
RESET = struct.pack("ii", 1, 0)


class Door:
    """Passes bytes between clients of `url` and a server, as long as it is left alone."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._open: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._is_cut = False
        self._is_slow = False
        self.port = 0
        self.turned_away = 0
        self.passed_bytes = 0

    @property
    def url(self) -> str:
        """Where clients go in place of the server."""
        return f"http://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["Door"]:
        """Listen on a free port for the length of a block."""
        server = await asyncio.start_server(self._visit, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.mend()
            self.reset()

    def cut(self) -> None:
        """End every connection, and every new one as soon as it is made, until it is mended."""
        self._is_cut = True
        self._end_all()

    def reset(self) -> None:
        """End every connection with a RST; new ones pass."""
        for writer in self._open:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._end_all()

    def stall(self) -> None:
        """Take connections and bytes, and pass nothing on, until it is mended."""
        self._passing.clear()

    def slow(self) -> None:
        """Pass SLOW_BYTES_PER_S on each connection, until it is mended."""
        self._is_slow = True

    def mend(self) -> None:
        """Pass everything again; what was stalled goes on."""
        self._is_cut = self._is_slow = False
        self._passing.set()

    def _end_all(self) -> None:
        for writer in tuple(self._open):
            writer.transport.abort()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert len(self._open) < CONNECTIONS_MAX, "too many connections on one door"
        self._open.add(writer)
        try:
            if self._is_cut:
                self.turned_away += 1
                return
            await self._carry(reader, writer)
        except OSError:
            pass  # either side ended it, which is what ends the other
        finally:
            self._open.discard(writer)
            writer.transport.abort() if self._is_cut else writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._address)
        self._open.add(up_writer)
        ways = [
            asyncio.create_task(self._pass(reader, up_writer)),
            asyncio.create_task(self._pass(up_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._open.discard(up_writer)
            up_writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(READ_BYTES_MAX):
            await self._passing.wait()
            for part in self._parts(data):
                writer.write(part)
                await writer.drain()
                self.passed_bytes += len(part)
                if self._is_slow:
                    await asyncio.sleep(SLOW_STEP_S)

    def _parts(self, data: bytes) -> list[bytes]:
        if not self._is_slow:
            return [data]
        step = int(SLOW_BYTES_PER_S * SLOW_STEP_S)
        return [data[start : start + step] for start in range(0, len(data), step)]
