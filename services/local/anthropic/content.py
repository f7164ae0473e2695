"""Declares the blocks that an answer consists of, as the API writes them; decides nothing."""

from typing import Literal

import msgspec

from services.local.anthropic.request import Block


class WebSearchCitation(msgspec.Struct, frozen=True, kw_only=True, tag="web_search_result_location"):
    """Names the search result that a text rests on."""

    cited_text: str
    url: str
    title: str
    encrypted_index: str


class TextBlock(msgspec.Struct, frozen=True, kw_only=True, tag="text", omit_defaults=True):
    """What the model says."""

    citations: tuple[WebSearchCitation, ...] | None = None
    text: str


class ThinkingBlock(msgspec.Struct, frozen=True, kw_only=True, tag="thinking"):
    """What the model thought, or only its signature where the thinking is not shown."""

    thinking: str
    signature: str


class ToolUseBlock(msgspec.Struct, frozen=True, kw_only=True, tag="tool_use"):
    """A call of one of the client's tools."""

    id: str
    name: str
    input: Block


class ServerToolUseBlock(msgspec.Struct, frozen=True, kw_only=True, tag="server_tool_use"):
    """A call of a tool that the API runs itself."""

    id: str
    name: Literal["web_search"] = "web_search"
    input: Block


class WebSearchResult(msgspec.Struct, frozen=True, kw_only=True, tag="web_search_result"):
    """One page that a search found."""

    title: str
    url: str
    encrypted_content: str
    page_age: str | None = None


class WebSearchToolResultBlock(msgspec.Struct, frozen=True, kw_only=True, tag="web_search_tool_result"):
    """What one search found."""

    tool_use_id: str
    content: tuple[WebSearchResult, ...]


class CompactionBlock(msgspec.Struct, frozen=True, kw_only=True, tag="compaction"):
    """The summary that stands for a conversation too long to keep."""

    content: str | None


class FallbackModel(msgspec.Struct, frozen=True, kw_only=True):
    """One end of a hand-over."""

    model: str


class FallbackTrigger(msgspec.Struct, frozen=True, kw_only=True, tag="refusal"):
    """Why a model handed over."""

    category: str | None = None


class FallbackBlock(msgspec.Struct, frozen=True, kw_only=True, tag="fallback"):
    """The point where another model takes over."""

    source: FallbackModel = msgspec.field(name="from")
    to: FallbackModel
    trigger: FallbackTrigger = FallbackTrigger()


ContentBlock = (
    TextBlock
    | ThinkingBlock
    | ToolUseBlock
    | ServerToolUseBlock
    | WebSearchToolResultBlock
    | CompactionBlock
    | FallbackBlock
)

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]


class RefusalDetails(msgspec.Struct, frozen=True, kw_only=True, tag="refusal"):
    """Why the model refused."""

    category: str | None = None
    explanation: str | None = None
