"""Derives the usage reported as a stream starts and when a message is whole; holds no I/O and no price."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from services.local.anthropic.answer import Answer
from services.local.anthropic.directives import Directives
from services.local.anthropic.prompt import PromptTokens
from services.local.anthropic.request import MessagesRequest

START_OUTPUT_TOKENS = 1  # message_start carries a placeholder, not a count
SEARCH_RESULT_TOKENS = 1_000  # what the pages of one web search add to the prompt
COMPACTED_PROMPT_TOKENS = 200  # what is left of a prompt after compaction
COMPACTION_OUTPUT_TOKENS = 50
ADVICE_TOKENS = 100  # what the advisor's words add to the prompt of the iteration after it
ADVISOR_PROMPT_TOKENS = 500  # what the advisor reads beside the conversation
ADVISOR_OUTPUT_TOKENS = 30
ADVISOR_MODEL = "claude-opus-5-5"  # where the request's advisor tool names none
FALLBACK_MODEL = "claude-sonnet-5-5"  # where no `model-served` names one
SERVER_TOOL_FAMILIES = ("web_search_", "web_fetch_", "code_execution_", "advisor_")


class CacheCreation(msgspec.Struct, frozen=True, kw_only=True):
    """Splits what was written to the cache by lifetime."""

    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class ThinkingDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Says how much of the output was thinking."""

    thinking_tokens: int


class ServerToolUse(msgspec.Struct, frozen=True, kw_only=True):
    """Counts the calls of tools that the API ran."""

    web_search_requests: int
    web_fetch_requests: int = 0


class Iteration(msgspec.Struct, frozen=True, kw_only=True):
    """One sampling of a model within a request."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_creation: CacheCreation = CacheCreation()
    type: Literal["message", "compaction", "advisor_message", "fallback_message"]
    model: str | UnsetType = UNSET


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Usage as the API writes it; what an event does not carry is unset."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    cache_creation: CacheCreation | UnsetType = UNSET
    output_tokens: int
    output_tokens_details: ThinkingDetails | UnsetType = UNSET
    server_tool_use: ServerToolUse | UnsetType = UNSET
    service_tier: str | UnsetType = UNSET
    inference_geo: str | UnsetType = UNSET
    speed: str | UnsetType = UNSET
    iterations: tuple[Iteration, ...] | UnsetType = UNSET


def start_usage(request: MessagesRequest, prompt: PromptTokens, directives: Directives) -> Usage:
    """Derive what message_start reports: the prompt exactly, the output not yet."""
    return Usage(
        input_tokens=prompt.plain,
        cache_creation_input_tokens=prompt.written,
        cache_read_input_tokens=prompt.read,
        cache_creation=_creation(prompt),
        output_tokens=START_OUTPUT_TOKENS,
        service_tier=directives.service_tier or "standard",
        inference_geo=request.inference_geo or "global",
        speed=request.speed or UNSET,
    )


def final_usage(
    request: MessagesRequest, start: Usage, prompt: PromptTokens, said: Answer, directives: Directives
) -> Usage:
    """Derive what a whole message reports."""
    searches = said.web_searches
    offered = _offers_server_tool(request)
    usage = replace(
        start,
        input_tokens=start.input_tokens + SEARCH_RESULT_TOKENS * (searches or 0),
        output_tokens=said.output_tokens,
        output_tokens_details=UNSET
        if said.thinking_tokens is None
        else ThinkingDetails(thinking_tokens=said.thinking_tokens),
        server_tool_use=ServerToolUse(web_search_requests=searches or 0) if offered else UNSET,
    )
    if directives.iterations is None:
        return usage
    if directives.iterations == "compaction":
        return _with_compaction(usage, prompt)
    if directives.iterations == "advisor":
        return _with_advisor(usage, request)
    if directives.iterations == "fallback":
        return _with_fallback(usage, prompt, request.model, served_model(request.model, directives))
    return replace(usage, iterations=(_iteration(usage, prompt, "message"),))


def delta_usage(usage: Usage) -> Usage:
    """Keep of a whole message's usage what message_delta carries: no lifetimes, tier, place or speed."""
    return replace(usage, cache_creation=UNSET, service_tier=UNSET, inference_geo=UNSET, speed=UNSET)


def served_model(model_id: str, directives: Directives) -> str:
    """Name the model that answers."""
    if directives.model_served is not None:
        return directives.model_served
    return FALLBACK_MODEL if directives.iterations == "fallback" else model_id


def _creation(prompt: PromptTokens) -> CacheCreation:
    return CacheCreation(
        ephemeral_5m_input_tokens=prompt.written_5m, ephemeral_1h_input_tokens=prompt.written_1h
    )


def _iteration(usage: Usage, prompt: PromptTokens, kind: Literal["message", "fallback_message"]) -> Iteration:
    return Iteration(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_input_tokens=prompt.read,
        cache_creation_input_tokens=prompt.written,
        cache_creation=_creation(prompt),
        type=kind,
    )


def _with_compaction(usage: Usage, prompt: PromptTokens) -> Usage:
    """The whole prompt was paid for by the compaction; the answer itself met a short prompt and no cache."""
    compaction = Iteration(
        input_tokens=usage.input_tokens,
        output_tokens=COMPACTION_OUTPUT_TOKENS,
        cache_read_input_tokens=prompt.read,
        cache_creation_input_tokens=prompt.written,
        cache_creation=_creation(prompt),
        type="compaction",
    )
    message = Iteration(
        input_tokens=COMPACTED_PROMPT_TOKENS, output_tokens=usage.output_tokens, type="message"
    )
    return replace(
        usage,
        input_tokens=COMPACTED_PROMPT_TOKENS,
        cache_creation_input_tokens=0,
        cache_read_input_tokens=0,
        cache_creation=CacheCreation(),
        iterations=(compaction, message),
    )


def _with_advisor(usage: Usage, request: MessagesRequest) -> Usage:
    """The executor ran twice around the advisor; the top level adds the executor's iterations only."""
    assert not isinstance(usage.cache_creation, UnsetType)
    cached = usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    first_output = -(-usage.output_tokens // 2)
    first = Iteration(
        input_tokens=usage.input_tokens,
        output_tokens=first_output,
        cache_read_input_tokens=usage.cache_read_input_tokens,
        cache_creation_input_tokens=usage.cache_creation_input_tokens,
        cache_creation=usage.cache_creation,
        type="message",
    )
    advisor = Iteration(
        input_tokens=usage.input_tokens + cached + ADVISOR_PROMPT_TOKENS,
        output_tokens=ADVISOR_OUTPUT_TOKENS,
        type="advisor_message",
        model=_advisor_model(request),
    )
    second = Iteration(
        input_tokens=usage.input_tokens + ADVICE_TOKENS,
        output_tokens=usage.output_tokens - first_output,
        cache_read_input_tokens=cached,
        type="message",
    )
    return replace(
        usage,
        input_tokens=first.input_tokens + second.input_tokens,
        cache_read_input_tokens=first.cache_read_input_tokens + second.cache_read_input_tokens,
        iterations=(first, advisor, second),
    )


def _offers_server_tool(request: MessagesRequest) -> bool:
    return any(str(tool.get("type", "")).startswith(SERVER_TOOL_FAMILIES) for tool in request.tools or ())


def _advisor_model(request: MessagesRequest) -> str:
    for tool in request.tools or ():
        model = tool.get("model")
        if str(tool.get("type", "")).startswith("advisor_") and isinstance(model, str):
            return model
    return ADVISOR_MODEL


def _with_fallback(usage: Usage, prompt: PromptTokens, declined_by: str, served_by: str) -> Usage:
    """The first model declined before it said anything; the top level is the serving attempt alone."""
    declined = replace(_iteration(usage, prompt, "message"), output_tokens=0, model=declined_by)
    served = replace(_iteration(usage, prompt, "fallback_message"), model=served_by)
    return replace(usage, iterations=(declined, served))
