"""Reads the `x-simulate` header into what a caller scripts; decides nothing about the answer, holds no I/O.

Grammar: `name[=value][;name[=value]]...`, blanks around names and values ignored, each name at most once.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from services.local.anthropic.errors import ERROR_TYPES, ApiFault

ContentCoding = Literal["gzip", "deflate", "br", "zstd"]
IterationScript = Literal["message", "compaction", "advisor", "fallback"]

DELAY_MS_MAX = 600_000  # the SDKs give up after ten minutes, so a longer wait could not be told from a stall
OUTPUT_TOKENS_MAX = 300_000  # the largest answer any model gives, under the 300k output beta
POSITION_MAX = 2**31 - 1  # events and bytes into a response; larger than any response there is
CHUNK_BYTES_MAX = 2**24  # above any response, so that `chunk-bytes` can also join a response into one chunk
BATCH_SECONDS_MAX = 30 * 86_400  # longer than a batch lives, so that any of its ends can be met
WEB_SEARCHES_MAX = 100  # bounds the content built for one answer
USAGE_BYTES_MAX = 16_384  # as much as a request header may hold anyway
MODEL_CHARS_MAX = 200  # as long as any model id, with room


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a client's tool, word for word."""

    name: str
    input: dict[str, object]


class Directives(msgspec.Struct, frozen=True, kw_only=True):
    """What one request scripts about its own answer; a default leaves the ordinary answer alone."""

    times: int | None = None
    latency_ms: int = 0
    chunk_delay_ms: int = 0
    status: int | None = None
    retry_after: int | None = None
    cut_before_answer: bool = False
    cut_after_events: int | None = None
    cut_after_bytes: int | None = None
    stall: bool = False
    stall_after_events: int | None = None
    error_event_after: int | None = None
    coding: ContentCoding | None = None
    chunk_bytes: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    delta_tokens: int | None = None
    web_searches: int | None = None
    refuse: bool = False
    refuse_after_tokens: int | None = None
    iterations: IterationScript | None = None
    model_served: str | None = None
    service_tier: Literal["standard", "priority", "batch"] | None = None
    usage: bytes | None = None
    start_usage: bytes | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    batch_seconds: int = 0
    cancel_seconds: int = 0


PLAIN = Directives()


def parse_directives(spec: str) -> Directives:
    """Read one header value; raises the 400 that names what is wrong with it."""
    scripted: dict[str, object] = {}
    for part in spec.split(";"):
        if not part.strip():
            continue
        name, separator, value = part.partition("=")
        name, text = name.strip(), value.strip() if separator else None
        if name not in _READERS:
            raise _fault(f"unknown directive {name!r}")
        field = _FIELDS.get(name, name.replace("-", "_"))
        if field in scripted:
            raise _fault(f"directive {name!r} says what another one has said already")
        scripted[field] = _READERS[name](name, text)
    return msgspec.convert(scripted, Directives)


def _fault(reason: str) -> ApiFault:
    return ApiFault(400, f"x-simulate: {reason}")


def _flag(name: str, text: str | None) -> object:
    if text is not None:
        raise _fault(f"directive {name!r} takes no value")
    return True


def _required(name: str, text: str | None) -> str:
    if not text:
        raise _fault(f"directive {name!r} needs a value")
    return text


def _integer(lowest: int, highest: int) -> Callable[[str, str | None], object]:
    def read(name: str, text: str | None) -> object:
        digits = _required(name, text)
        # int() alone would take "+1", " 1" and "1_000", and would be slow on a header of digits.
        if not (
            digits.isascii() and digits.isdigit() and len(digits) <= 10 and lowest <= int(digits) <= highest
        ):
            raise _fault(f"directive {name!r} needs a whole number from {lowest} to {highest}")
        return int(digits)

    return read


def _one_of(*choices: str) -> Callable[[str, str | None], object]:
    def read(name: str, text: str | None) -> object:
        value = _required(name, text)
        if value not in choices:
            raise _fault(f"directive {name!r} needs one of {', '.join(choices)}")
        return value

    return read


def _status(name: str, text: str | None) -> object:
    value = _required(name, text)
    if value not in {str(status) for status in ERROR_TYPES}:
        raise _fault(f"directive {name!r} needs one of {', '.join(map(str, ERROR_TYPES))}")
    return int(value)


def _model(name: str, text: str | None) -> object:
    value = _required(name, text)
    if len(value) > MODEL_CHARS_MAX:
        raise _fault(f"directive {name!r} takes at most {MODEL_CHARS_MAX} characters")
    return value


def _json_object(name: str, text: str | None) -> object:
    value = _required(name, text)
    try:
        decoded = _from_base64url(value)
        msgspec.json.decode(decoded, type=dict[str, object])
    except (binascii.Error, UnicodeError, ValueError) as exc:
        raise _fault(f"directive {name!r} needs a JSON object in base64url") from exc
    if len(decoded) > USAGE_BYTES_MAX:
        raise _fault(f"directive {name!r} takes at most {USAGE_BYTES_MAX} bytes")
    return decoded


def _tool_calls(name: str, text: str | None) -> object:
    value = _required(name, text)
    try:
        return msgspec.json.decode(_from_base64url(value), type=tuple[ToolCall, ...])
    except (binascii.Error, UnicodeError, ValueError) as exc:
        raise _fault(f"directive {name!r} needs a JSON list of name and input in base64url") from exc


def _from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _coding(name: str, text: str | None) -> object:
    _flag(name, text)
    return name


_READERS: Mapping[str, Callable[[str, str | None], object]] = {
    "times": _integer(0, 100),
    "latency-ms": _integer(0, DELAY_MS_MAX),
    "chunk-delay-ms": _integer(0, DELAY_MS_MAX),
    "status": _status,
    "retry-after": _integer(0, 86_400),
    "cut-before-answer": _flag,
    "cut-after-events": _integer(0, POSITION_MAX),
    "cut-after-bytes": _integer(0, POSITION_MAX),
    "stall": _flag,
    "stall-after-events": _integer(0, POSITION_MAX),
    "error-event-after": _integer(0, POSITION_MAX),
    "gzip": _coding,
    "deflate": _coding,
    "br": _coding,
    "zstd": _coding,
    "chunk-bytes": _integer(1, CHUNK_BYTES_MAX),
    "output-tokens": _integer(0, OUTPUT_TOKENS_MAX),
    "thinking-tokens": _integer(1, OUTPUT_TOKENS_MAX),
    "delta-tokens": _integer(1, OUTPUT_TOKENS_MAX),
    "web-searches": _integer(0, WEB_SEARCHES_MAX),
    "refuse": _flag,
    "refuse-after-tokens": _integer(1, OUTPUT_TOKENS_MAX),
    "iterations": _one_of("message", "compaction", "advisor", "fallback"),
    "model-served": _model,
    "service-tier": _one_of("standard", "priority"),
    "usage": _json_object,
    "start-usage": _json_object,
    "tool-calls": _tool_calls,
    "batch-seconds": _integer(0, BATCH_SECONDS_MAX),
    "cancel-seconds": _integer(0, BATCH_SECONDS_MAX),
}

_FIELDS: Mapping[str, str] = dict.fromkeys(("gzip", "deflate", "br", "zstd"), "coding")
