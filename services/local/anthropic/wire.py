"""Carries a request's exact head and its connection, which uvicorn knows and ASGI hides; no more."""

import asyncio
from typing import cast

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Scope = dict[str, object]

_WIRE = "tollhouse.wire"


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """One request's head as it arrived, and the connection it came on."""

    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    transport: asyncio.Transport

    def is_gone(self) -> bool:
        """Tell whether the connection is closing or closed."""
        return self.transport.is_closing()

    def cut(self) -> None:
        """Close the connection once what was written has gone out, without ending the response."""
        self.transport.close()


def wire_of(scope: Scope) -> Wire:
    """Find the wire of a request served by WireProtocol."""
    return cast(Wire, scope[_WIRE])


class WireProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, which also keeps header names as they were written."""

    def on_message_begin(self) -> None:
        """Start a request."""
        super().on_message_begin()
        self._exact_headers: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header line."""
        super().on_header(name, value)
        self._exact_headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Attach the wire to the scope before the application is started with it."""
        wire = Wire(target=self.url, headers=tuple(self._exact_headers), transport=self.transport)
        cast(Scope, self.scope)[_WIRE] = wire
        super().on_headers_complete()
