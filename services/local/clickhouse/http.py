"""Serves ClickHouse's HTTP interface as a raw ASGI application: awaits clients, and decides little."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar, TypeVarTuple

import structlog

from services.local.clickhouse.access import Account, check_access
from services.local.clickhouse.encodings import choose_coding
from services.local.clickhouse.engine import Engine
from services.local.clickhouse.errors import ErrorCode, QueryFailed, refused
from services.local.clickhouse.job import Answer, Job, Rest
from services.local.clickhouse.reply import Exchange, Message, Receive, Send, send_text
from services.local.clickhouse.request import BODY_BYTES_MAX, Request, read_job, read_parameters
from services.local.clickhouse.statements import Insert, Query

# Each holds a thread and an engine handle; more would only take turns on a laptop's cores.
QUERIES_AT_ONCE_MAX = 8
# A kill must not queue behind the queries that it is to end, nor one behind another that waits for its query.
KILLS_AT_ONCE_MAX = 2
# Decoding holds a body twice.
DECODES_AT_ONCE_MAX = 2
# Of all requests together, as sent and as decoded: a few of the largest; then clients are told to come back.
HELD_BODY_BYTES_MAX = 1024**3

STATUS_PATHS = frozenset({"/ping", "/replicas_status"})

R = TypeVar("R")
Arguments = TypeVarTuple("Arguments")

log = structlog.get_logger()


class ClientGone(Exception):
    """The client closed the connection before its request was complete: there is nobody to answer."""


class HttpInterface:
    """The ASGI application over one engine."""

    def __init__(
        self, engine: Engine, account: Account, held_body_bytes_max: int = HELD_BODY_BYTES_MAX
    ) -> None:
        self._engine = engine
        self._account = account
        self._queries = ThreadPoolExecutor(QUERIES_AT_ONCE_MAX, "query")
        self._kills = ThreadPoolExecutor(KILLS_AT_ONCE_MAX, "kill")
        self._decodes = ThreadPoolExecutor(DECODES_AT_ONCE_MAX, "decode")
        self._running: set[Future[Any]] = set()
        self._held_body_bytes = 0
        self._held_body_bytes_max = held_body_bytes_max

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["path"] in STATUS_PATHS:
            await send_text(send, 200, "Ok.\n")
        elif scope["path"] != "/":
            await send_text(send, 404, f"There is no handle {scope['path']}\n")
        else:
            await self._answer(scope, receive, send)

    def stop(self, wait_s: float) -> bool:
        """Start no further statement, end those that run, and tell whether they have ended in time."""
        for threads in (self._queries, self._kills, self._decodes):
            threads.shutdown(wait=False, cancel_futures=True)
        self._engine.kill_all()
        return not wait(self._running, wait_s).not_done

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        parameters = read_parameters(scope["query_string"])
        query_id = parameters.get("query_id") or str(uuid.uuid4())
        exchange = Exchange(send, query_id, self._engine.timezone)
        with contextlib.ExitStack() as held:
            try:
                request = await self._read_request(scope, receive, parameters, held)
                check_access(request, self._account)
                if not request.body and not parameters.get("query"):
                    await send_text(send, 200, "Ok.\n")
                    return
                if parameters.get("enable_http_compression") == "1":
                    exchange.encode_as(choose_coding(request.headers.get("accept-encoding", "")))
                # Decoding a large body takes long enough for other clients to feel it: it has threads too.
                job = await self._in_thread(self._decodes, read_job, request, query_id, uuid.uuid4().hex)
                self._hold(len(job.statement.data) if isinstance(job.statement, Insert) else 0, held)
            except ClientGone:
                return
            except QueryFailed as failure:
                await exchange.fail(failure)
                return
            await self._run_while_wanted(job, exchange, receive)

    async def _run_while_wanted(self, job: Job, exchange: Exchange, receive: Receive) -> None:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(self._kill_when_gone(receive, exchange, job))
            try:
                await self._run(job, exchange)
            finally:
                watcher.cancel()

    async def _run(self, job: Job, exchange: Exchange) -> None:
        is_kill = isinstance(job.statement, Query) and job.statement.keyword == "KILL"
        try:
            answer = await self._in_thread(
                self._kills if is_kill else self._queries, self._engine.execute, job
            )
        except QueryFailed as failure:
            await exchange.fail(failure)
            return
        if answer.rest is None:
            await exchange.succeed(answer)
            return
        try:
            await self._stream(answer, answer.rest, exchange)
        finally:
            await self._in_thread(self._queries, answer.rest.close)

    async def _stream(self, answer: Answer, rest: Rest, exchange: Exchange) -> None:
        try:
            await exchange.begin(answer)
            while (piece := await self._in_thread(self._queries, rest.fetch)) is not None:
                await exchange.go_on(piece)
            await exchange.end()
        except QueryFailed as failure:
            await exchange.break_off(failure)

    async def _kill_when_gone(self, receive: Receive, exchange: Exchange, job: Job) -> None:
        """Stop computing what nobody will read; what writes goes on, as on a ClickHouse server."""
        while (await receive())["type"] != "http.disconnect":
            pass
        if exchange.is_complete or isinstance(job.statement, Insert) or not job.statement.is_select:
            return
        await asyncio.get_running_loop().run_in_executor(self._kills, self._engine.kill, job.mark)
        log.info("local_clickhouse.query_killed", query_id=exchange.query_id, reason="client_gone")

    async def _in_thread(
        self, threads: ThreadPoolExecutor, call: Callable[[*Arguments], R], *arguments: *Arguments
    ) -> R:
        future = threads.submit(call, *arguments)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return await asyncio.wrap_future(future)

    async def _read_request(
        self, scope: Message, receive: Receive, parameters: dict[str, str], held: contextlib.ExitStack
    ) -> Request:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        announced = headers.get("content-length", "")
        pieces: list[bytes] = []
        body_bytes = int(announced) if announced.isdecimal() and int(announced) > BODY_BYTES_MAX else 0
        more = body_bytes == 0
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            pieces.append(message.get("body", b""))
            self._hold(len(pieces[-1]), held)
            body_bytes += len(pieces[-1])
            more = message.get("more_body", False) and body_bytes <= BODY_BYTES_MAX
        if body_bytes > BODY_BYTES_MAX:
            raise refused(
                ErrorCode.QUERY_IS_TOO_LARGE,
                f"The body has more than {BODY_BYTES_MAX} bytes; send less at once.",
            )
        return Request(method=scope["method"], parameters=parameters, headers=headers, body=b"".join(pieces))

    def _hold(self, body_bytes: int, held: contextlib.ExitStack) -> None:
        """Count bytes of a body until its request ends, or refuse to hold more."""
        if self._held_body_bytes + body_bytes > self._held_body_bytes_max:
            raise refused(
                ErrorCode.TOO_MANY_SIMULTANEOUS_QUERIES,
                f"Requests hold {self._held_body_bytes} bytes already; send this one later.",
            )
        self._held_body_bytes += body_bytes
        held.callback(self._let_go, body_bytes)

    def _let_go(self, body_bytes: int) -> None:
        self._held_body_bytes -= body_bytes
