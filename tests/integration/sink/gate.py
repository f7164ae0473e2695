"""A door before ClickHouse that a test can shut, or through which answers get lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit


class Gate:
    """Passes bytes both ways; `is_open` and `lose_answers` say what becomes of the next bytes."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname, address.port
        self.is_open = True
        self.lose_answers = 0
        self.turned_away = asyncio.Event()
        self.lost = asyncio.Event()

    @contextlib.asynccontextmanager
    async def url(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._visit, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if self.is_open:
                up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
                await asyncio.gather(self._up(reader, up_writer), self._down(up_reader, writer))
            else:
                self.turned_away.set()
        writer.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if not self.is_open:
                    self.turned_away.set()
                    break
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self.lose_answers > 0:
                    self.lose_answers -= 1
                    self.lost.set()
                    break
                writer.write(data)
                await writer.drain()
        writer.close()
