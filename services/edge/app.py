"""Takes a request in: who calls, what for, with which body; then hands it to `forward`, or refuses it."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import structlog
from litestar import Litestar, Request, Response, asgi
from litestar.exceptions import HTTPException
from litestar.types import Receive as LitestarReceive
from litestar.types import Scope as LitestarScope
from litestar.types import Send as LitestarSend

from schemas.ids import EdgeId, RequestId, new_request_id
from services.edge.attribution import attribute
from services.edge.body import BodyView, read_body
from services.edge.client import BodyTooLarge, BodyTooSlow, ClientGone, PassingBody, Receive, Send, whole_body
from services.edge.config import EdgeConfig
from services.edge.events import Exchange
from services.edge.forward import Forwarder, answer_with
from services.edge.headers import RawHeaders, first, gateway_credential, headers_up, own_credential
from services.edge.identity import Caller, identify, read_credentials
from services.edge.passage import Passage
from services.edge.recorder import CannotRecord, Recorder
from services.edge.refusals import (
    BODY_TOO_LARGE,
    BODY_TOO_SLOW,
    CREDENTIAL_FAULTS,
    FAILED,
    SPOOL_FULL,
    TARGET_FAULTS,
    UNKNOWN_ROUTE,
    Refusal,
    body_of,
    headers_of,
)
from services.edge.targets import Target, target_of
from services.edge.transport import WholeBody
from services.runtime import metrics
from services.runtime.health import Readiness, health_router

log = structlog.get_logger(__name__)

# Of refused requests at most one a second is logged: a flood of them must not fill the disk.
REFUSAL_LOG_S_MIN = 1.0
# Finding `litellm_metadata` takes 30 ms a MiB: longer bodies are read beside the event loop.
READ_ON_LOOP_BYTES_MAX = 128 * 1024
# Of a model's name, in characters; it is the client's word until upstream confirms it.
MODEL_CHARS_MAX = 128


class Admitted(NamedTuple):
    """A request that may begin an exchange; `refusal` is set where it ends at once, on the record."""

    caller: Caller
    target: Target
    view: BodyView
    body: WholeBody | PassingBody
    body_bytes: int | None
    refusal: Refusal | None = None


class Gateway:
    """The raw ASGI application behind both mounts."""

    def __init__(self, config: EdgeConfig, edge_id: EdgeId, recorder: Recorder, forwarder: Forwarder) -> None:
        self._config = config
        self._edge_id = edge_id
        self._recorder = recorder
        self._forwarder = forwarder
        self._base_path = urlsplit(config.upstream.base_url).path.rstrip("/").encode()
        self._refusal_logged_at = 0.0
        self.exchange_seq = 0
        self.open_exchanges = 0

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        received_ns = time.perf_counter_ns()
        started_ms = time.time_ns() // 1_000_000
        request_id = new_request_id(started_ms)
        try:
            admitted = await self._admit(scope, receive)
        except ClientGone:
            return  # the request was never complete: there is no exchange
        if isinstance(admitted, Refusal):
            await self._refuse(admitted, request_id, send)
            return
        exchange = self._exchange(request_id, started_ms, scope, admitted)
        try:
            self._recorder.open(exchange)
        except CannotRecord:
            await self._refuse(SPOOL_FULL, request_id, send)
            return
        self.exchange_seq += 1
        passage = Passage(exchange, self._recorder, received_ns)
        await self._carry(passage, scope["headers"], admitted, (receive, send))

    async def _admit(self, scope: Mapping[str, Any], receive: Receive) -> Admitted | Refusal:
        headers: RawHeaders = scope["headers"]
        upstream = self._config.upstream
        caller = identify(
            read_credentials(headers),
            master_key=self._config.master_key,
            hash_secret=self._config.own_key_hash_secret,
            gateway_has_credential=upstream.has_credential,
        )
        if isinstance(caller, str):
            return CREDENTIAL_FAULTS[caller]
        target = target_of(scope["method"], scope["raw_path"], scope["query_string"], self._base_path)
        if isinstance(target, str):
            return TARGET_FAULTS[target]
        if not _is_read_first(target, headers, self._config.body_bytes_max):
            return Admitted(caller, target, BodyView(), PassingBody(receive), None)
        try:
            came = await whole_body(receive, self._config.body_bytes_max)
        except BodyTooSlow:
            return BODY_TOO_SLOW
        except BodyTooLarge:
            return Admitted(caller, target, BodyView(), WholeBody(b""), None, BODY_TOO_LARGE)
        if len(came) > READ_ON_LOOP_BYTES_MAX:
            view, body = await asyncio.to_thread(read_body, came)
        else:
            view, body = read_body(came) if came else (BodyView(), came)
        return Admitted(caller, target, view, WholeBody(body), len(body))

    def _exchange(
        self, request_id: RequestId, started_ms: int, scope: Mapping[str, Any], admitted: Admitted
    ) -> Exchange:
        headers: RawHeaders = scope["headers"]
        return Exchange(
            request_id=request_id,
            started_at=datetime.fromtimestamp(started_ms / 1000, UTC),
            edge_id=self._edge_id,
            exchange_seq=self.exchange_seq + 1,
            attribution=attribute(admitted.caller.virtual_key_id, headers, admitted.view),
            method=scope["method"],
            operation=admitted.target.operation,
            endpoint=admitted.target.endpoint,
            model_requested=admitted.view.model[:MODEL_CHARS_MAX],
            is_stream=admitted.view.is_stream,
            request_bytes=_length(headers) if admitted.body_bytes is None else admitted.body_bytes,
            client_user_agent=first(headers, b"user-agent"),
            anthropic_version=first(headers, b"anthropic-version"),
            anthropic_beta=first(headers, b"anthropic-beta"),
            traceparent=first(headers, b"traceparent"),
        )

    async def _carry(
        self, passage: Passage, headers: RawHeaders, admitted: Admitted, channel: tuple[Receive, Send]
    ) -> None:
        self.open_exchanges += 1
        metrics.edge_open_exchanges.inc()
        try:
            if admitted.refusal is not None:
                passage.refused(admitted.refusal)
                passage.close("refused")
                await self._refuse(admitted.refusal, passage.exchange.request_id, channel[1])
                return
            up = headers_up(headers, self._credential(admitted.caller, headers), admitted.body_bytes)
            await self._forwarder.forward(passage, admitted.target.raw, up, admitted.body, channel)
        finally:
            passage.close("orphaned")  # does nothing unless the server cancelled us before an ending
            self.open_exchanges -= 1
            metrics.edge_open_exchanges.dec()

    def _credential(self, caller: Caller, headers: RawHeaders) -> RawHeaders:
        if caller.forwards_own_credential:
            return own_credential(headers, self._config.master_key)
        return gateway_credential(self._config.upstream.api_key, self._config.upstream.auth_token)

    async def _refuse(self, refusal: Refusal, request_id: RequestId, send: Send) -> None:
        now = time.monotonic()
        if now - self._refusal_logged_at >= REFUSAL_LOG_S_MIN:
            self._refusal_logged_at = now
            log.info("request.refused", request_id=request_id, reason=refusal.reason, status=refusal.status)
        await answer_with(refusal, request_id, send)


def create_app(gateway: Gateway, readiness: Readiness) -> Litestar:
    """Mount the gateway where clients look for it, beside health and metrics."""

    @asgi("/anthropic", is_mount=True, copy_scope=False)
    async def prefixed(scope: LitestarScope, receive: LitestarReceive, send: LitestarSend) -> None:
        await gateway(cast("Mapping[str, Any]", scope), cast("Receive", receive), cast("Send", send))

    @asgi("/v1", is_mount=True, copy_scope=False)
    async def bare(scope: LitestarScope, receive: LitestarReceive, send: LitestarSend) -> None:
        await gateway(cast("Mapping[str, Any]", scope), cast("Receive", receive), cast("Send", send))

    return Litestar(
        [prefixed, bare, health_router(readiness)],
        exception_handlers={HTTPException: _not_served, Exception: _failed},
        openapi_config=None,
        logging_config=None,
    )


def _not_served(_: Request[Any, Any, Any], exc: HTTPException) -> Response[bytes]:
    """Answer what is no route of ours as Anthropic would: a client may have a wrong base URL."""
    return _response(UNKNOWN_ROUTE if exc.status_code < 500 else FAILED)


def _failed(request: Request[Any, Any, Any], exc: Exception) -> Response[bytes]:
    """Answer where the gateway itself has a fault; the traceback goes to the log, not to the client."""
    log.error("request.failed", path=request.url.path, exc_info=exc)
    return _response(FAILED)


def _response(refusal: Refusal) -> Response[bytes]:
    metrics.edge_refusals.labels(refusal.reason).inc()
    request_id = new_request_id(time.time_ns() // 1_000_000)
    body = body_of(refusal, request_id)
    headers = {name.decode(): value.decode() for name, value in headers_of(refusal, request_id, len(body))}
    return Response(body, status_code=refusal.status, headers=headers, media_type="application/json")


def _is_read_first(target: Target, headers: RawHeaders, bytes_max: int) -> bool:
    """Say whether the body is read before it goes up: messages always, other JSON where it is short.

    What is not read first passes as it comes: files, and batches that go beyond memory's share.
    """
    if target.operation in ("messages", "count_tokens"):
        return True
    length = first(headers, b"content-length")
    has_body = length not in ("", "0") or bool(first(headers, b"transfer-encoding"))
    is_short = length.isdigit() and int(length) <= bytes_max
    return not has_body or (is_short and first(headers, b"content-type").startswith("application/json"))


def _length(headers: RawHeaders) -> int:
    length = first(headers, b"content-length")
    return int(length) if length.isdigit() else 0
