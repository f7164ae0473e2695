"""Says no in the shape that LiteLLM's clients read: {"error": {message, type, param, code}}."""

from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from services.edge.registry.writer import RegistryUnavailable, Taken, Vanished

log = structlog.get_logger(__name__)


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong; `param` names the field at fault, `code` is the status as text."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An error as LiteLLM writes one."""

    error: ErrorBody


class AdminRefused(Exception):
    """The request cannot be met; the text is for the operator."""

    def __init__(
        self, message: str, param: str | None = None, *, status: int = 400, kind: str = "bad_request_error"
    ) -> None:
        super().__init__(message)
        self.param = param
        self.status = status
        self.kind = kind


def not_found(what: str, param: str) -> AdminRefused:
    """Say that there is no such record; the name that was given is not repeated, as it may be a secret."""
    return AdminRefused(f"There is no such {what}.", param, status=404, kind="not_found_error")


def refused(_: Request[Any, Any, Any], exc: AdminRefused) -> Response[ErrorAnswer]:
    """Answer what an operator got wrong."""
    return _answer(exc.status, str(exc), exc.kind, exc.param)


def vanished(_: Request[Any, Any, Any], exc: Vanished) -> Response[ErrorAnswer]:
    """Answer where another operator deleted meanwhile what was to be changed."""
    return _answer(404, "It has just been deleted.", "not_found_error", None)


def taken(_: Request[Any, Any, Any], exc: Taken) -> Response[ErrorAnswer]:
    """Answer where somebody made meanwhile what was to be made; an earlier try of the same operator, too."""
    return _answer(400, "There is one by now: it has just been made.", "bad_request_error", None)


def unavailable(_: Request[Any, Any, Any], exc: RegistryUnavailable) -> Response[ErrorAnswer]:
    """Answer where Kafka is away, with LiteLLM's word for a store that is."""
    return _answer(503, f"{exc}.", "no_db_connection", None)


def not_valid(_: Request[Any, Any, Any], exc: HTTPException) -> Response[ErrorAnswer]:
    """Answer what the framework could not read; values are not repeated."""
    param = None
    message = exc.detail
    if isinstance(exc, ValidationException):
        extra: list[dict[str, str]] = exc.extra if isinstance(exc.extra, list) else []
        # `data` is the framework's word for a body as a whole.
        faults = [{**each, "key": "" if each.get("key") == "data" else each.get("key", "")} for each in extra]
        param = next((each["key"] for each in faults if each["key"]), None)
        message = (
            "; ".join(f"{each['key'] or 'body'}: {each.get('message', '')}" for each in faults) or message
        )
    kind = "bad_request_error" if exc.status_code < 500 else "internal_server_error"
    return _answer(exc.status_code, message, kind, param)


def failed(request: Request[Any, Any, Any], exc: Exception) -> Response[ErrorAnswer]:
    """Answer where the gateway itself has a fault; the traceback goes to the log, not to the client.

    The log has the route, and not the path: a key's secret may stand in that.
    """
    log.error("request.failed", route=request.scope["path_template"], exc_info=exc)
    return _answer(500, "The gateway failed to handle this request.", "internal_server_error", None)


def _answer(status: int, message: str, kind: str, param: str | None) -> Response[ErrorAnswer]:
    body = ErrorBody(message=message, type=kind, param=param, code=str(status))
    return Response(ErrorAnswer(error=body), status_code=status)
