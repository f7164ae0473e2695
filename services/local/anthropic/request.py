"""Reads the body of POST /v1/messages and refuses what the real API would refuse; never answers it."""

import re
from typing import Literal

import msgspec

from services.local.anthropic.errors import ApiFault
from services.local.anthropic.models import Model, find_model

BODY_BYTES_MAX = 32 * 1024**2  # the published limit of the Messages endpoints
CACHE_BREAKPOINTS_MAX = 4
THINKING_BUDGET_TOKENS_MIN = 1024
SAMPLING_REMOVED_VERSION = "2026-10-21"  # from here on temperature, top_p and top_k are refused

Block = dict[str, object]


class CacheControl(msgspec.Struct, frozen=True, kw_only=True):
    """A mark on a block: the prompt up to here is to be cached."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class MessageParam(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """How the model is asked to think."""

    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    budget_tokens: int | None = None
    display: Literal["summarized", "omitted"] | None = None


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a tool must be used, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None


class MessagesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that shape a simulated answer; any other field is accepted and ignored."""

    model: str
    messages: list[MessageParam]
    max_tokens: int | None = None
    stream: bool | None = None
    system: str | list[Block] | None = None
    tools: list[Block] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    stop_sequences: list[str] | None = None
    cache_control: CacheControl | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    inference_geo: str | None = None
    speed: Literal["standard", "fast"] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None


_decoder = msgspec.json.Decoder(MessagesRequest)


def read_count_request(body: bytes) -> MessagesRequest:
    """Decode a request to count tokens, which needs no max_tokens."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise ApiFault(400, _as_the_api_says(str(exc))) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ApiFault(400, f"The request body is not valid JSON: {exc}") from exc
    if not request.messages:
        raise ApiFault(400, "messages: at least one message is required")
    find_model(request.model)
    return request


def read_messages_request(body: bytes, api_version: str) -> tuple[MessagesRequest, Model]:
    """Decode and check a request for a message; returns it with the model that it names."""
    request = read_count_request(body)
    model = find_model(request.model)
    if request.max_tokens is None:
        raise ApiFault(400, "max_tokens: Field required")
    if request.max_tokens < 0:
        raise ApiFault(400, "max_tokens: Input should be greater than or equal to 0")
    if request.max_tokens > model.max_tokens:
        raise ApiFault(
            400,
            f"max_tokens: {request.max_tokens} > {model.max_tokens}, which is the maximum allowed number of"
            f" output tokens for {request.model}",
        )
    _check_thinking(request)
    _check_sampling(request, api_version)
    return request, model


def _check_thinking(request: MessagesRequest) -> None:
    thinking = request.thinking
    if thinking is None or thinking.type != "enabled":
        return
    if thinking.budget_tokens is None:
        raise ApiFault(400, "thinking.enabled.budget_tokens: Field required")
    if thinking.budget_tokens < THINKING_BUDGET_TOKENS_MIN:
        raise ApiFault(
            400,
            "thinking.enabled.budget_tokens: Input should be greater than or equal to"
            f" {THINKING_BUDGET_TOKENS_MIN}",
        )
    if request.max_tokens is not None and request.max_tokens <= thinking.budget_tokens:
        raise ApiFault(400, "`max_tokens` must be greater than `thinking.budget_tokens`")


def _check_sampling(request: MessagesRequest, api_version: str) -> None:
    # Versions are dates, so the order of text is the order of time.
    if api_version < SAMPLING_REMOVED_VERSION:
        return
    for name in ("temperature", "top_p", "top_k"):
        if getattr(request, name) is not None:
            raise ApiFault(400, f"{name}: Extra inputs are not permitted")


_MISSING = re.compile(r"Object missing required field `([^`]+)`(?: - at `\$\.?(.*)`)?$")
_PLACED = re.compile(r" - at `\$\.?(.*)`$")


def _as_the_api_says(reason: str) -> str:
    missing = _MISSING.match(reason)
    if missing:
        place = _dotted(missing[2] or "")
        return f"{place}.{missing[1]}: Field required" if place else f"{missing[1]}: Field required"
    placed = _PLACED.search(reason)
    if placed:
        return f"{_dotted(placed[1])}: Input does not match the expected shape."
    return "Input does not match the expected shape."


def _dotted(path: str) -> str:
    return re.sub(r"\[(\d+|\.\.\.)\]", r".\1", path).lstrip(".")
