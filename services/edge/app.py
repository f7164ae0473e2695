"""Takes a request in: who calls, what for, with which body; then hands it to `forward`, or refuses it."""

import contextlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import structlog
from litestar import Litestar, Request, Response, Router, asgi
from litestar.exceptions import HTTPException
from litestar.types import Receive as LitestarReceive
from litestar.types import Scope as LitestarScope
from litestar.types import Send as LitestarSend

from schemas.attribution import Attribution
from schemas.ids import EdgeId, RequestId, new_request_id
from services.edge.admin.routes import open_api
from services.edge.admission import Admission, Admitted
from services.edge.attribution import attribute, without_end_user
from services.edge.batches.answers import BatchAnswers
from services.edge.batches.intake import BatchBody, Intake
from services.edge.batches.ownership import Ownership
from services.edge.batches.watch import BatchAnswer
from services.edge.body import MODEL_CHARS_MAX
from services.edge.body_memory import BodyMemory
from services.edge.client import ClientGone, Receive, Send
from services.edge.config import EdgeConfig
from services.edge.events import Exchange
from services.edge.forward import Forwarder, answer_with
from services.edge.headers import RawHeaders, first, gateway_credential, headers_up, own_credential
from services.edge.identity import secrets_of
from services.edge.passage import Passage
from services.edge.recorder import CannotRecord, Recorder
from services.edge.redirects import Redirects
from services.edge.refusals import (
    FAILED,
    METHOD_UNKNOWN,
    NO_CREDENTIAL,
    SPOOL_FULL,
    UNKNOWN_ROUTE,
    Refusal,
    body_of,
    headers_of,
)
from services.edge.registry.booking import booked
from services.edge.registry.denials import Asked, denial
from services.edge.registry.table import Registry
from services.edge.targets import is_hello
from services.runtime import metrics
from services.runtime.health import Readiness, health_router

log = structlog.get_logger(__name__)

# Of refused requests at most one a second is logged: a flood of them must not fill the disk.
REFUSAL_LOG_S_MIN = 1.0


class Gateway:
    """The raw ASGI application behind both mounts."""

    def __init__(
        self,
        config: EdgeConfig,
        edge_id: EdgeId,
        recorder: Recorder,
        forwarder: Forwarder,
        registry: Registry | None = None,
        ownership: Ownership | None = None,
    ) -> None:
        self.config = config
        self._edge_id = edge_id
        self._registry = registry or Registry(is_read=True)
        self._recorder = recorder
        self._forwarder = forwarder
        self.intake = Intake(config)
        self._admission = Admission(config, self._registry, self.intake)
        self._batch_answers = BatchAnswers(ownership or Ownership(is_read=True), self._admission.base_path)
        self.body_memory = BodyMemory(config.bodies_in_memory_bytes_max)
        self._refusal_logged_at = 0.0
        self.exchange_seq = 0
        self._open_seqs: set[int] = set()

    def reconfigure(self, config: EdgeConfig) -> None:
        """Serve what comes from now on by other settings; what is under way keeps those that it has."""
        self.config = config
        self._admission = Admission(config, self._registry, self.intake)
        self.intake.room.bytes_max = config.batches.bytes_max
        self.body_memory.bytes_max = config.bodies_in_memory_bytes_max
        self._recorder.when_full = config.spool.when_full
        self._forwarder.reconfigure(config)

    @property
    def open_exchanges(self) -> int:
        """How many exchanges are under way."""
        return len(self._open_seqs)

    @property
    def oldest_open_seq(self) -> int:
        """The lowest number that is under way, 0 where none is: what is below it has been recorded."""
        return min(self._open_seqs, default=0)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        received_ns = time.perf_counter_ns()
        started_ms = time.time_ns() // 1_000_000
        request_id = new_request_id(started_ms)
        with self.body_memory.lease() as lease, contextlib.ExitStack() as held:
            try:
                admitted = await self._admission.admit(scope, receive, lease)
            except ClientGone:
                return  # the request was never complete: there is no exchange
            if admitted is NO_CREDENTIAL and is_hello(scope["method"], scope["raw_path"]):
                await _greet(send)
                return
            if isinstance(admitted, Refusal):
                await self._refuse(admitted, request_id, send)
                return
            if isinstance(admitted.body, BatchBody):
                held.enter_context(admitted.body)
            attribution = self._attribution(scope["headers"], admitted)
            if admitted.refusal is None:
                denied = self._denial(scope, admitted, attribution)
                denied = denied or await self._batch_answers.refusal(scope, admitted)
                admitted = admitted._replace(refusal=denied)
            if admitted.config.disable_end_user_cost_tracking:
                attribution = without_end_user(attribution)
            exchange = self._exchange((request_id, started_ms), scope, admitted, attribution)
            try:
                self._recorder.open(exchange)
            except CannotRecord:
                await self._refuse(SPOOL_FULL, request_id, send)
                return
            self.exchange_seq += 1
            passage = Passage(exchange, self._recorder, received_ns)
            await self._carry(passage, scope, admitted, (receive, send))

    def _attribution(self, headers: RawHeaders, admitted: Admitted) -> Attribution:
        caller = admitted.caller
        return booked(attribute(caller.virtual_key_id, headers, admitted.view), caller.grant)

    def _denial(
        self, scope: Mapping[str, Any], admitted: Admitted, attribution: Attribution
    ) -> Refusal | None:
        end_user = self._registry.table.end_user(attribution.end_user_id)
        asked = Asked(scope["method"], scope["raw_path"], admitted.target, admitted.models)
        return denial(admitted.caller.grant, end_user, asked)

    def _exchange(
        self,
        minted: tuple[RequestId, int],
        scope: Mapping[str, Any],
        admitted: Admitted,
        attribution: Attribution,
    ) -> Exchange:
        headers: RawHeaders = scope["headers"]
        request_id, started_ms = minted
        return Exchange(
            request_id=request_id,
            started_at=datetime.fromtimestamp(started_ms / 1000, UTC),
            edge_id=self._edge_id,
            exchange_seq=self.exchange_seq + 1,
            attribution=attribution,
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
            cache_ttls=admitted.view.cache_ttls,
            on_disconnect=admitted.caller.grant.key.on_disconnect if admitted.caller.grant else "",
        )

    async def _carry(
        self, passage: Passage, scope: Mapping[str, Any], admitted: Admitted, channel: tuple[Receive, Send]
    ) -> None:
        up = _headers_up(scope["headers"], admitted)
        batch = self._batch_answers.to(scope, admitted, up)
        refusal = admitted.refusal
        if isinstance(batch, Refusal):
            refusal, batch = batch, None
        self._open_seqs.add(passage.exchange.exchange_seq)
        metrics.edge_open_exchanges.inc()
        try:
            if refusal is not None:
                passage.refused(refusal)
                passage.close("refused")
                await self._refuse(refusal, passage.exchange.request_id, channel[1])
                return
            if isinstance(batch, BatchAnswer):
                up = batch.headers_up
            redirects = Redirects(scope, admitted.config, admitted.target.raw)
            await self._forwarder.forward(
                passage, admitted.target.raw, up, admitted.body, channel, redirects, batch
            )
        finally:
            passage.close("orphaned")  # does nothing unless the server cancelled us before an ending
            self._open_seqs.discard(passage.exchange.exchange_seq)
            metrics.edge_open_exchanges.dec()

    async def _refuse(self, refusal: Refusal, request_id: RequestId, send: Send) -> None:
        now = time.monotonic()
        if now - self._refusal_logged_at >= REFUSAL_LOG_S_MIN:
            self._refusal_logged_at = now
            log.info("request.refused", request_id=request_id, reason=refusal.reason, status=refusal.status)
        await answer_with(refusal, request_id, send)


def create_app(gateway: Gateway, readiness: Readiness, admin: Router | None = None) -> Litestar:
    """Mount the gateway where clients look for it, beside health, metrics and the admin API."""

    @asgi("/anthropic", is_mount=True, copy_scope=False)
    async def prefixed(scope: LitestarScope, receive: LitestarReceive, send: LitestarSend) -> None:
        await gateway(cast("Mapping[str, Any]", scope), cast("Receive", receive), cast("Send", send))

    @asgi("/v1", is_mount=True, copy_scope=False)
    async def bare(scope: LitestarScope, receive: LitestarReceive, send: LitestarSend) -> None:
        await gateway(cast("Mapping[str, Any]", scope), cast("Receive", receive), cast("Send", send))

    return Litestar(
        [prefixed, bare, health_router(readiness), *([admin] if admin else [])],
        exception_handlers={HTTPException: _not_served, Exception: _failed},
        openapi_config=open_api() if admin else None,
        logging_config=None,
    )


def _headers_up(headers: RawHeaders, admitted: Admitted) -> RawHeaders:
    master_key, upstream = admitted.config.master_key, admitted.config.upstream
    if admitted.caller.forwards_own_credential:
        credential = own_credential(headers, master_key, admitted.virtual_key)
    else:
        credential = gateway_credential(upstream.api_key, upstream.auth_token)
    if admitted.is_decoded:
        headers = [(name, value) for name, value in headers if name != b"content-encoding"]
    secrets = secrets_of(admitted.credentials, admitted.caller, master_key)
    up = headers_up(headers, credential, admitted.body_bytes, secrets)
    if isinstance(admitted.body, BatchBody) and not first(headers, b"content-length"):
        up.append((b"content-length", b"%d" % admitted.body_bytes))
    return up


async def _greet(send: Send) -> None:
    """Answer Claude Code's probe as Anthropic does; it goes nowhere, and leaves nothing."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _not_served(_: Request[Any, Any, Any], exc: HTTPException) -> Response[bytes]:
    """Answer what is no route of ours as Anthropic would: a client may have a wrong base URL."""
    if exc.status_code == METHOD_UNKNOWN.status:
        return _response(METHOD_UNKNOWN)
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


def _length(headers: RawHeaders) -> int:
    length = first(headers, b"content-length")
    return int(length) if length.isdigit() else 0
