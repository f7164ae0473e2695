"""Decides which work of an exchange Anthropic bills, and at which model; knows no price."""

from typing import Annotated, Literal, NamedTuple, cast

import msgspec

from schemas.codec import UNREADABLE
from schemas.usage import UsageRecorded
from services.rating.errors import ImplausibleUsage

# Far above any true count; keeps every product exact within the precision that pricing works at.
UNITS_MAX = 10**15

TokenDimension = Literal["input", "output", "cache_read", "cache_write_5m", "cache_write_1h"]
TOKEN_DIMENSIONS: tuple[TokenDimension, ...] = (
    "input",
    "output",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
)

_TRIES_AT_AN_ANSWER = ("message", "fallback_message")
_KNOWN_SERVER_TOOLS = ("web_search_requests", "web_fetch_requests")
_KNOWN_CACHE_LIFETIMES = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")


class Tokens(NamedTuple):
    """Tokens by dimension, in the order of TOKEN_DIMENSIONS."""

    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int

    @property
    def prompt(self) -> int:
        """The whole prompt, cached or not: what prompt tiers go by."""
        return self.input + self.cache_read + self.cache_writes

    @property
    def cache_writes(self) -> int:
        """What was written to the cache, for whatever time."""
        return self.cache_write_5m + self.cache_write_1h


class Attempt(NamedTuple):
    """One run of one model that is billed."""

    model: str
    tokens: Tokens


class Billed(NamedTuple):
    """What is billed by the token, and what the usage names that no price book can know."""

    attempts: tuple[Attempt, ...]
    unknown: tuple[str, ...]


_Count = Annotated[int, msgspec.Meta(ge=0, le=UNITS_MAX)] | None


class _Entry(msgspec.Struct, frozen=True):
    """One entry of usage.iterations; a compaction names no model, its model is the message's."""

    type: str = ""
    model: str | None = None
    input_tokens: _Count = 0
    output_tokens: _Count = 0
    cache_read_input_tokens: _Count = 0
    cache_creation_input_tokens: _Count = 0
    cache_creation: dict[str, _Count] | None = None


class _Verbatim(msgspec.Struct, frozen=True):
    """The parts of Anthropic's usage object that the typed counts leave out."""

    iterations: tuple[_Entry, ...] | None = None
    server_tool_use: dict[str, object] | None = None
    cache_creation: dict[str, object] | None = None
    fallback_credit: dict[str, object] | None = None


_VERBATIM = msgspec.json.Decoder(_Verbatim | None)
_NOTHING = _Verbatim()


def billed(usage: UsageRecorded) -> Billed:
    """Read what is billed; ImplausibleUsage where the typed counts cannot be true.

    Where the end of the message was seen, `iterations` is the billing record: the top level leaves out
    compactions and advisors. Before the end it can only be message_start's, which the counts outgrow.
    """
    counted = _counted(usage)
    message_model = usage.model_served or usage.model_requested
    # Where the event had no room for Anthropic's usage object, iterations may be among what was left out.
    unknown: tuple[str, ...] = ("usage",) if "usage" in usage.cut else ()
    verbatim = _NOTHING
    try:
        verbatim = _VERBATIM.decode(usage.usage) or _NOTHING
    except UNREADABLE:
        # Not Anthropic's usage object as it is known; iterations may be among what cannot be read.
        unknown = ("usage",)
    unknown = (*unknown, *_unknown_members(verbatim))
    if verbatim.iterations and _is_end_seen(usage):
        entries = _without_declined(verbatim.iterations, usage.stop_reason)
        attempts = tuple(Attempt(entry.model or message_model, _tokens(entry)) for entry in entries)
    elif usage.stop_reason == "refusal" and counted.output == 0:
        attempts = ()
    else:
        attempts = (Attempt(message_model, counted),)
    if _is_credited(verbatim) and any(attempt.tokens.cache_writes for attempt in attempts):
        unknown = (*unknown, "fallback_credit")
    return Billed(attempts, unknown)


def _is_credited(verbatim: _Verbatim) -> bool:
    """Whether a fallback credit was redeemed: some cache writes then cost what a read costs.

    How many is not in the usage (anthropic 2.12, BetaFallbackCreditUsage): list price is booked, as partial.
    """
    status: object = (verbatim.fallback_credit or {}).get("status")
    kind: object = cast("dict[str, object]", status).get("type") if isinstance(status, dict) else status
    return kind == "redeemed"


def _counted(usage: UsageRecorded) -> Tokens:
    """Take the typed counts."""
    counts = usage.tokens
    tokens = Tokens(
        counts.input_tokens,
        counts.output_tokens,
        counts.cache_read_tokens,
        counts.cache_write_5m_tokens,
        counts.cache_write_1h_tokens,
    )
    every = (*tokens, counts.web_search_requests, counts.web_fetch_requests)
    if min(every) < 0 or max(every) > UNITS_MAX:
        raise ImplausibleUsage(f"a count lies outside 0 to {UNITS_MAX}")
    return tokens


def _is_end_seen(usage: UsageRecorded) -> bool:
    return usage.usage_status == "final" or usage.outcome in ("completed", "succeeded")


def _without_declined(entries: tuple[_Entry, ...], stop_reason: str) -> tuple[_Entry, ...]:
    """Drop the attempts that Anthropic does not bill: declined before any output.

    An attempt without output was declined if another followed it, or if it was the last one and the
    message ended in a refusal. A single one without output that was no refusal warmed the cache: billed.
    """
    tries = [place for place, entry in enumerate(entries) if entry.type in _TRIES_AT_AN_ANSWER]
    last = tries[-1] if tries else -1
    return tuple(
        entry
        for place, entry in enumerate(entries)
        if entry.type not in _TRIES_AT_AN_ANSWER
        or entry.output_tokens
        or (place == last and stop_reason != "refusal")
    )


def _tokens(entry: _Entry) -> Tokens:
    """Read one entry; cache writes that the split leaves out go to its only lifetime, else to 5 minutes."""
    split = entry.cache_creation or {}
    write_5m, write_1h = (split.get(lifetime) or 0 for lifetime in _KNOWN_CACHE_LIFETIMES)
    residual = max(0, (entry.cache_creation_input_tokens or 0) - write_5m - write_1h)
    if write_1h and not write_5m:
        write_1h += residual
    else:
        write_5m += residual
    return Tokens(
        entry.input_tokens or 0,
        entry.output_tokens or 0,
        entry.cache_read_input_tokens or 0,
        write_5m,
        write_1h,
    )


def _unknown_members(verbatim: _Verbatim) -> tuple[str, ...]:
    """Name the server tools and cache lifetimes that were used and have no dimension of ours."""
    members: dict[str, None] = {}
    lifetimes = [verbatim.cache_creation, *(entry.cache_creation for entry in verbatim.iterations or ())]
    for name, value in (verbatim.server_tool_use or {}).items():
        if value and name not in _KNOWN_SERVER_TOOLS:
            members[name] = None
    for split in lifetimes:
        for name, value in (split or {}).items():
            if value and name not in _KNOWN_CACHE_LIFETIMES:
                members[name] = None
    return tuple(members)
