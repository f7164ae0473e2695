"""Simulated clients: send what `traffic` draws, and keep a receipt of every answer; retry nothing unseen."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime

import httpx

from tests.chaos.traffic import Asked, Receipt, next_ask

CONNECT_S_MAX = 5.0
READ_S_MAX = 30.0  # longer than anything is frozen, and than the edge waits for upstream
TURNED_AWAY_PAUSE_S = 0.2


class Clients:
    """Clients of several edges: each request goes to one of them, and to the next where none listens."""

    def __init__(self, edge_urls: Sequence[str], seed: int = 0) -> None:
        self._urls = tuple(edge_urls)
        self._dice = random.Random(seed)
        timeout = httpx.Timeout(READ_S_MAX, connect=CONNECT_S_MAX)
        # Fresh connections only: on a kept one a request may cross its closing, which says nothing of us.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.AsyncClient(trust_env=False, timeout=timeout, limits=limits)
        self._grown = asyncio.Condition()
        self.receipts: list[Receipt] = []

    async def close(self) -> None:
        await self._http.aclose()

    @contextlib.asynccontextmanager
    async def at_work(
        self, count: int, pause_s: float, draw: Callable[[random.Random], Asked] = next_ask
    ) -> AsyncIterator["Clients"]:
        """Keep so many clients at work for the length of a block; what is open at its end is finished."""
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                dice = random.Random(self._dice.getrandbits(64))
                group.create_task(self._work(lambda dice=dice: draw(dice), pause_s, stopping))
            try:
                yield self
            finally:
                stopping.set()

    async def until_more(self, count: int, seconds_max: float) -> None:
        """Wait until so many more exchanges have ended."""
        enough = len(self.receipts) + count
        async with asyncio.timeout(seconds_max), self._grown:
            await self._grown.wait_for(lambda: len(self.receipts) >= enough)

    async def ask(self, ask: Asked) -> Receipt:
        """Make one request and keep its receipt."""
        urls = self._dice.sample(self._urls, len(self._urls))
        receipt = Receipt(ask, datetime.now(UTC), "turned_away")
        for url in urls:
            try:
                receipt = await self._asked(ask, url)
            except httpx.ConnectError as exc:  # nobody listens: nothing was sent, the next one may have it
                receipt = Receipt(ask, datetime.now(UTC), "turned_away", url, error=repr(exc))
                continue
            break
        async with self._grown:
            self.receipts.append(receipt)
            self._grown.notify_all()
        return receipt

    async def _work(self, draw: Callable[[], Asked], pause_s: float, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            receipt = await self.ask(draw())
            await asyncio.sleep(TURNED_AWAY_PAUSE_S if receipt.ending == "turned_away" else 0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), self._dice.uniform(0, 2 * pause_s))

    async def _asked(self, ask: Asked, url: str) -> Receipt:
        receipt = Receipt(ask, datetime.now(UTC), "cut", url)
        try:
            async with self._http.stream(
                ask.method, url + ask.path, json=ask.body(), headers=ask.headers()
            ) as answer:
                receipt = receipt._replace(
                    request_id=answer.headers.get("x-tollhouse-request-id", ""),
                    status=answer.status_code,
                    is_upstreams="anthropic-organization-id" in answer.headers,
                )
                is_stream = answer.headers.get("content-type", "").startswith("text/event-stream")
                if is_stream:
                    return await _streamed(receipt, answer)
                return _whole(receipt, await answer.aread())
        except httpx.ConnectError:
            raise
        except (httpx.TransportError, httpx.DecodingError) as exc:
            return receipt._replace(error=repr(exc))


def _whole(receipt: Receipt, content: bytes) -> Receipt:
    if receipt.status >= 400:
        return receipt._replace(ending="error", error=content[:300].decode(errors="replace"))
    if receipt.ask.operation == "batches":
        return receipt._replace(ending="complete", answer=content)
    if receipt.ask.operation == "count_tokens":
        return receipt._replace(ending="complete")
    message = json.loads(content)
    return receipt._replace(
        ending="complete", message_id=message["id"], model_served=message["model"], usage=message["usage"]
    )


async def _streamed(receipt: Receipt, answer: httpx.Response) -> Receipt:
    """Read events to the end; from message_stop on the answer is complete, whatever comes of the rest."""
    seen, pending, hangs_up_after = receipt, "", receipt.ask.hangs_up_after
    chunks = 0
    try:
        async for text in answer.aiter_text():
            chunks += 1
            *events, pending = (pending + text).split("\n\n")
            for event in events:
                seen = _with_event(seen, event)
            if hangs_up_after is not None and chunks > hangs_up_after and seen.ending == "cut":
                return seen._replace(ending="hung_up")
    except (httpx.TransportError, httpx.DecodingError) as exc:
        return seen._replace(error=repr(exc))
    return seen


def _with_event(seen: Receipt, event: str) -> Receipt:
    kind, data = _kind_and_data(event)
    if kind == "error":  # perhaps behind half an event of upstream's, which it renames
        return seen._replace(ending="error_event", error=data)
    content = json.loads(data) if data else {}
    match kind:
        case "message_start":
            message = content["message"]
            return seen._replace(
                message_id=message["id"], model_served=message["model"], usage=message["usage"]
            )
        case "message_delta":
            news = {name: value for name, value in content["usage"].items() if value is not None}
            return seen._replace(usage={**(seen.usage or {}), **news})
        case "message_stop":
            return seen._replace(ending="complete")
    return seen


def _kind_and_data(event: str) -> tuple[str, str]:
    """Read the fields of one event as the standard says: the last name counts, and all of the data."""
    fields = [line.partition(": ")[::2] for line in event.splitlines()]
    kinds = [value for name, value in fields if name == "event"]
    return kinds[-1] if kinds else "", "\n".join(value for name, value in fields if name == "data")
