"""Asks the Anthropic API about batches; says of a failure what the tracker does next, and reads no usage."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from schemas.batches import BatchCounts, BatchSeen, BatchState
from schemas.codec import UNREADABLE
from services.batch_tracker.config import UpstreamConfig
from services.batch_tracker.errors import AccessRefused, NotThere, TryLater
from services.batch_tracker.throttle import HOLD_S_MAX, Throttle

MIB = 1024 * 1024
# Of an answer that is not results: a page of a hundred batches is some 40 KB.
ANSWER_BYTES_MAX = 4 * MIB
# Of one line: a message of 300,000 output tokens is below 2 MB, the content of searches may be far longer.
LINE_BYTES_MAX = 32 * MIB
PAGE_BATCHES = 100
# A batch is read by the version it was made under; this one where nobody knows it.
VERSION = "2023-06-01"
OK = 200


class _Batch(msgspec.Struct):
    id: str
    processing_status: str
    created_at: datetime
    expires_at: datetime
    request_counts: BatchCounts = BatchCounts()
    ended_at: datetime | None = None
    archived_at: datetime | None = None


class _Page(msgspec.Struct):
    data: tuple[_Batch, ...]
    has_more: bool = False
    last_id: str | None = None


class FoundBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as Anthropic has it; an archived one has no results any more."""

    batch_id: str
    seen: BatchSeen
    is_archived: bool


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Batches, the newest first, and behind which to ask for more; "" where there are none."""

    batches: tuple[FoundBatch, ...]
    after_id: str


_Answer = TypeVar("_Answer")
_BATCH = msgspec.json.Decoder(_Batch)
_PAGE = msgspec.json.Decoder(_Page)


class Anthropic:
    """The batch endpoints, under one credential and one throttle."""

    def __init__(self, config: UpstreamConfig, throttle: Throttle) -> None:
        self._credential = config.credential
        self._throttle = throttle
        self._base_url = config.base_url.rstrip("/") + "/v1/messages/batches"
        key = ("x-api-key", config.api_key)
        token = ("authorization", f"Bearer {config.auth_token}")
        self._client = httpx.AsyncClient(
            # Identity: a coded answer could be a thousand times as long as it is on the wire.
            headers=[key if config.api_key else token, ("accept-encoding", "identity")],
            timeout=httpx.Timeout(config.read_s_max, connect=config.connect_s_max),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def batch(self, batch_id: str, version: str = "", beta: str = "") -> FoundBatch:
        """Ask for one batch."""
        answer = await self._answer(f"{self._base_url}/{quote(batch_id, safe='')}", version, beta)
        return self._found(_decoded(_BATCH, answer))

    async def page(self, after_id: str = "") -> Page:
        """Ask for the newest batches, or those made before one of them."""
        after = f"&after_id={quote(after_id, safe='')}" if after_id else ""
        answer = await self._answer(f"{self._base_url}?limit={PAGE_BATCHES}{after}", "", "")
        page = _decoded(_PAGE, answer)
        return Page(
            batches=tuple(self._found(each) for each in page.data),
            after_id=(page.last_id or "") if page.has_more else "",
        )

    @contextlib.asynccontextmanager
    async def results(self, state: BatchState) -> AsyncGenerator[AsyncIterator[bytes | None]]:
        """Ask for the results of a batch; gives its lines, and None for one beyond LINE_BYTES_MAX.

        The address is put together here: what an answer names as `results_url` gets no credential of ours.
        """
        url = f"{self._base_url}/{quote(state.batch_id, safe='')}/results"
        async with self._asked(url, state.anthropic_version, state.anthropic_beta) as response:
            yield _lines(response)

    async def _answer(self, url: str, version: str, beta: str) -> bytes:
        async with self._asked(url, version, beta) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise TryLater("the answer is too long to be one")
            return bytes(body)

    @contextlib.asynccontextmanager
    async def _asked(self, url: str, version: str, beta: str) -> AsyncGenerator[httpx.Response]:
        await self._throttle.turn()
        headers = {"anthropic-version": version or VERSION, **({"anthropic-beta": beta} if beta else {})}
        try:
            async with self._client.stream("GET", url, headers=headers) as response:
                self._check(response)
                yield response
        except httpx.HTTPError as exc:
            raise TryLater(f"no whole answer: {type(exc).__name__}") from exc

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == OK:
            return
        if status in (401, 403):
            raise AccessRefused(f"Anthropic answered {status}")
        if status == 404:
            raise NotThere("Anthropic answered 404")
        wait_s = _retry_after_s(response.headers)
        if status == 429:
            self._throttle.hold(wait_s)
        raise TryLater(f"Anthropic answered {status}", wait_s)

    def _found(self, batch: _Batch) -> FoundBatch:
        return FoundBatch(
            batch_id=batch.id,
            seen=BatchSeen(
                status=batch.processing_status,
                created_at=batch.created_at,
                expires_at=batch.expires_at,
                credential=self._credential,
                ended_at=batch.ended_at,
                counts=batch.request_counts,
            ),
            is_archived=batch.archived_at is not None,
        )


async def _lines(response: httpx.Response) -> AsyncIterator[bytes | None]:
    """Cut a body into lines that are not empty, without keeping more than one."""
    kept, is_too_long = bytearray(), False
    async for chunk in response.aiter_bytes():
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            kept += chunk[start:end]
            start = end + 1
            if kept.strip() or is_too_long:
                yield None if is_too_long or len(kept) > LINE_BYTES_MAX else bytes(kept)
            kept, is_too_long = bytearray(), False
        kept += chunk[start:]
        if len(kept) > LINE_BYTES_MAX:
            kept, is_too_long = bytearray(), True
        await asyncio.sleep(0)  # a body that is here already would hold the loop to its end
    if kept.strip() or is_too_long:
        yield None if is_too_long else bytes(kept)


def _decoded(decoder: msgspec.json.Decoder[_Answer], answer: bytes) -> _Answer:
    try:
        return decoder.decode(answer)
    except UNREADABLE as exc:
        raise TryLater("the answer is no batch that can be read") from exc


def _retry_after_s(headers: httpx.Headers) -> float:
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit_s
        except ValueError:
            continue
        if seconds >= 0:
            return min(seconds, HOLD_S_MAX)
    return 0.0
