"""Writes an answer or an error to a client in the shape that ClickHouse's HTTP interface gives them."""

import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict
from typing import Any

from services.local.clickhouse.encodings import Coding, open_encoder
from services.local.clickhouse.errors import QueryFailed, http_status
from services.local.clickhouse.job import Answer, Summary

# ASGI's own types: messages are dictionaries whose values depend on their keys.
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

SERVER_NAME = "tollhouse-local"
EXCEPTION_TAG_BYTES = 8

TEXT = "text/plain; charset=UTF-8"
BINARY = "application/octet-stream"
CONTENT_TYPES = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "TabSeparatedWithNames": "text/tab-separated-values; charset=UTF-8; header=present",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "Native": BINARY,
    "RowBinary": BINARY,
    "Arrow": BINARY,
    "ArrowStream": BINARY,
    "Parquet": BINARY,
}


async def send_text(send: Send, status: int, text: str) -> None:
    """Answer a request that reached no statement."""
    body = text.encode()
    await _start(send, status, [("content-type", TEXT), ("content-length", str(len(body)))])
    await send({"type": "http.response.body", "body": body})


class Exchange:
    """The writing side of one request."""

    def __init__(self, send: Send, query_id: str, timezone: str) -> None:
        self._send = send
        self.query_id = query_id
        self._headers = [
            ("x-clickhouse-server-display-name", SERVER_NAME),
            ("x-clickhouse-query-id", query_id),
            ("x-clickhouse-timezone", timezone),
        ]
        self._coding: Coding = "identity"
        self._encoder = open_encoder("identity")
        self._exception_tag = secrets.token_hex(EXCEPTION_TAG_BYTES)
        self.is_complete = False

    def encode_as(self, coding: Coding) -> None:
        """Choose the coding of a result; errors are never encoded."""
        self._coding = coding
        self._encoder = open_encoder(coding)

    async def succeed(self, answer: Answer) -> None:
        """Send a whole result."""
        body = self._encoder.encode(answer.head) + self._encoder.finish()
        self.is_complete = True
        await _start(self._send, 200, [*self._result_headers(answer), ("content-length", str(len(body)))])
        await self._send({"type": "http.response.body", "body": body})

    async def fail(self, failure: QueryFailed) -> None:
        """Send an error in place of a result."""
        body = f"{failure.text}\n".encode("utf-8", "replace")
        self.is_complete = True
        headers = [
            *self._headers,
            ("content-type", TEXT),
            ("content-length", str(len(body))),
            ("x-clickhouse-exception-code", str(failure.code)),
        ]
        await _start(self._send, http_status(failure.code), headers)
        await self._send({"type": "http.response.body", "body": body})

    async def begin(self, answer: Answer) -> None:
        """Send the beginning of a result that goes on."""
        headers = [*self._result_headers(answer), ("x-clickhouse-exception-tag", self._exception_tag)]
        await _start(self._send, 200, headers)
        await self.go_on(answer.head)

    async def go_on(self, piece: bytes) -> None:
        """Send the next piece of a result."""
        encoded = self._encoder.encode(piece)
        await self._send({"type": "http.response.body", "body": encoded, "more_body": True})

    async def end(self) -> None:
        """Send the end of a result."""
        self.is_complete = True
        await self._send({"type": "http.response.body", "body": self._encoder.finish()})

    async def break_off(self, failure: QueryFailed) -> None:
        """Tell an error in the middle of a result, and leave the response without its proper end.

        The status has long been sent: the tag of the headers marks the error's text in the body.
        """
        self.is_complete = True
        tag, text = self._exception_tag, failure.text
        marked = f"\r\n__exception__\r\n{tag}\r\n{text}\n{len(text.encode())} {tag}\r\n__exception__\r\n"
        body = self._encoder.encode(marked.encode("utf-8", "replace")) + self._encoder.finish()
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    def _result_headers(self, answer: Answer) -> list[tuple[str, str]]:
        headers = [*self._headers, ("x-clickhouse-summary", _summary_text(answer.summary))]
        if answer.format is None:
            headers.append(("content-type", TEXT))
        else:
            headers.append(("x-clickhouse-format", answer.format))
            headers.append(("content-type", CONTENT_TYPES.get(answer.format, TEXT)))
        if self._coding != "identity":
            headers.append(("content-encoding", self._coding))
        return headers


def _summary_text(summary: Summary) -> str:
    """Write numbers as strings, as ClickHouse does for the sake of JavaScript."""
    return json.dumps({name: str(value) for name, value in asdict(summary).items()})


async def _start(send: Send, status: int, headers: list[tuple[str, str]]) -> None:
    encoded = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
