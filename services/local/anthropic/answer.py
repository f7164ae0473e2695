"""Decides what the simulated model says to a request, and what tokens that takes; holds no I/O, no clock."""

from functools import lru_cache

import msgspec

from services.local.anthropic.content import (
    CompactionBlock,
    ContentBlock,
    RefusalDetails,
    ServerToolUseBlock,
    StopReason,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    WebSearchCitation,
    WebSearchResult,
    WebSearchToolResultBlock,
)
from services.local.anthropic.directives import WEB_SEARCHES_MAX, Directives
from services.local.anthropic.errors import ApiFault
from services.local.anthropic.prompt import tokens_of_text
from services.local.anthropic.request import Block, MessageParam, MessagesRequest

# The model says this over and over: each word, with the blank before it, is one token.
SENTENCE = "Tollhouse counted every token that passed the gate, once and only once."
TEXT_TOKENS = 12  # one SENTENCE
THOUGHT = "The gate keeper counts tokens before lifting the bar."
THINKING_TOKENS = 32
COMPACTION_SUMMARY = "The conversation so far was about counting tokens."
REFUSAL_EXPLANATION = "The simulated model was scripted to refuse."
SIGNATURE = "c2ltdWxhdGVkLXNpZ25hdHVyZQ=="
ENCRYPTED = "c2ltdWxhdGVkLWVuY3J5cHRlZC1jb250ZW50"
TEXTS_CACHED_MAX = 256

_encoder = msgspec.json.Encoder()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model said, why it stopped, and what that took."""

    content: tuple[ContentBlock, ...]
    stop_reason: StopReason
    stop_sequence: str | None = None
    stop_details: RefusalDetails | None = None
    output_tokens: int
    thinking_tokens: int | None = None
    web_searches: int | None = None


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    thinking_tokens: int | None
    searches: tuple[Block, ...] | None
    text_tokens: int
    sequence: str | None  # the stop sequence that the text runs into
    tool: ToolUseBlock | None


class _Budget:
    """Hands out output tokens until max_tokens is reached."""

    def __init__(self, tokens: int) -> None:
        self.left = tokens
        self.spent = 0
        self.overdrawn = False

    def take(self, tokens: int) -> int:
        granted = min(tokens, self.left)
        self.overdrawn = self.overdrawn or granted < tokens
        self.left -= granted
        self.spent += granted
        return granted

    def take_whole(self, tokens: int) -> bool:
        """Take all or, where that does not fit, everything that is left."""
        return self.take(tokens) == tokens


def answer(request: MessagesRequest, directives: Directives, number: int) -> Answer:
    """Decide the answer; `number` is the exchange's, from which tool-use ids are made."""
    if directives.refuse:
        return _refusal((), 0, None)
    plan = _plan(request, directives, number)
    max_tokens = request.max_tokens or 0
    refused_at = directives.refuse_after_tokens
    budget = _Budget(max_tokens if refused_at is None else min(max_tokens, refused_at))
    blocks: list[ContentBlock] = []
    if directives.iterations == "compaction":
        # The summary is paid for by the compaction iteration, not by the answer.
        blocks.append(CompactionBlock(content=COMPACTION_SUMMARY))
    thinking_tokens = _think(plan, request, budget, blocks)
    web_searches = _search(plan, number, budget, blocks)
    reached = _say(plan, budget, blocks)
    if plan.tool is not None and not budget.overdrawn and budget.take_whole(_tool_tokens(plan.tool)):
        blocks.append(plan.tool)
    content = tuple(blocks)
    if refused_at is not None and budget.overdrawn and refused_at <= max_tokens:
        return _refusal(content, budget.spent, thinking_tokens)
    return Answer(
        content=content,
        stop_reason=_stop_reason(budget, reached, plan.tool),
        stop_sequence=reached,
        output_tokens=budget.spent,
        thinking_tokens=thinking_tokens,
        web_searches=web_searches,
    )


def spoken_text(tokens: int) -> str:
    """Give the text that this many tokens make."""
    whole, rest = divmod(tokens, TEXT_TOKENS)
    words = SENTENCE.split(" ")
    return " ".join([SENTENCE] * whole + ([" ".join(words[:rest])] if rest else []))


_cached_text = lru_cache(maxsize=TEXTS_CACHED_MAX)(spoken_text)


def _refusal(content: tuple[ContentBlock, ...], output_tokens: int, thinking_tokens: int | None) -> Answer:
    return Answer(
        content=content,
        stop_reason="refusal",
        stop_details=RefusalDetails(explanation=REFUSAL_EXPLANATION),
        output_tokens=output_tokens,
        thinking_tokens=thinking_tokens,
    )


def _stop_reason(budget: _Budget, stop_sequence: str | None, tool: ToolUseBlock | None) -> StopReason:
    if budget.overdrawn:
        return "max_tokens"
    if stop_sequence is not None:
        return "stop_sequence"
    return "end_turn" if tool is None else "tool_use"


def _plan(request: MessagesRequest, directives: Directives, number: int) -> _Plan:
    thinking = _thinks(request)
    thinking_tokens = (directives.thinking_tokens or THINKING_TOKENS) if thinking else None
    searches = _searches(request, directives)
    tool = _scripted_tool(request, directives, number) or _asked_tool(request, number)
    text_tokens = TEXT_TOKENS
    if directives.output_tokens is not None:
        others = thinking_tokens or 0
        others += sum(_search_tokens(query) for query in searches or ())
        others += 0 if tool is None else _tool_tokens(tool)
        text_tokens = max(0, directives.output_tokens - others)
    text_tokens, sequence = _until_stopped(text_tokens, request.stop_sequences or ())
    return _Plan(
        thinking_tokens=thinking_tokens,
        searches=searches,
        text_tokens=text_tokens,
        # A stop sequence ends the turn before the tool is reached.
        tool=tool if sequence is None else None,
        sequence=sequence,
    )


def _thinks(request: MessagesRequest) -> bool:
    return request.thinking is not None and request.thinking.type in ("enabled", "adaptive")


def _think(plan: _Plan, request: MessagesRequest, budget: _Budget, blocks: list[ContentBlock]) -> int | None:
    if plan.thinking_tokens is None or budget.left == 0:
        return None
    granted = budget.take(plan.thinking_tokens)
    hidden = request.thinking is not None and request.thinking.display == "omitted"
    blocks.append(ThinkingBlock(thinking="" if hidden else THOUGHT, signature=SIGNATURE))
    return granted


def _searches(request: MessagesRequest, directives: Directives) -> tuple[Block, ...] | None:
    tool = _tool_of_family(request, "web_search_")
    if tool is None:
        return None
    wanted = 1 if directives.web_searches is None else directives.web_searches
    uses_max = tool.get("max_uses")
    if isinstance(uses_max, int):
        wanted = min(wanted, max(0, uses_max))
    wanted = min(wanted, WEB_SEARCHES_MAX)
    return tuple({"query": f"simulated search {position}"} for position in range(1, wanted + 1))


def _search(plan: _Plan, number: int, budget: _Budget, blocks: list[ContentBlock]) -> int | None:
    if plan.searches is None:
        return None
    done = 0
    for query in plan.searches:
        if budget.overdrawn or not budget.take_whole(_search_tokens(query)):
            break
        done += 1
        use_id = f"srvtoolu_01{number:016d}{done:06d}"
        blocks.append(ServerToolUseBlock(id=use_id, input=query))
        blocks.append(WebSearchToolResultBlock(tool_use_id=use_id, content=_found(done)))
    return done


def _found(search: int) -> tuple[WebSearchResult, ...]:
    return tuple(
        WebSearchResult(
            title=f"Simulated page {page}",
            url=f"https://example.com/search/{search}/page/{page}",
            encrypted_content=ENCRYPTED,
            page_age="1 day ago",
        )
        for page in (1, 2)
    )


def _search_tokens(query: Block) -> int:
    return tokens_of_text("web_search" + _encoder.encode(query).decode())


def _say(plan: _Plan, budget: _Budget, blocks: list[ContentBlock]) -> str | None:
    """Append the text and name the stop sequence that ended it."""
    granted = 0 if budget.overdrawn else budget.take(plan.text_tokens)
    if granted == 0:
        return None
    text = _cached_text(granted)
    reached = plan.sequence if granted == plan.text_tokens else None
    if reached is not None:
        text = text[: text.index(reached)]
    if text:
        blocks.append(TextBlock(text=text, citations=(_citation(),) if plan.searches else None))
    return reached


def _citation() -> WebSearchCitation:
    page = _found(1)[0]
    return WebSearchCitation(cited_text=SENTENCE, url=page.url, title=page.title, encrypted_index=ENCRYPTED)


def _until_stopped(text_tokens: int, sequences: list[str] | tuple[()]) -> tuple[int, str | None]:
    """Cut the text at the first stop sequence in it; the tokens that spelled the sequence out are counted."""
    if not sequences:
        return text_tokens, None
    text = _cached_text(text_tokens)
    hits = [(text.index(sequence), sequence) for sequence in sequences if sequence and sequence in text]
    if not hits:
        return text_tokens, None
    start, sequence = min(hits)
    # A blank belongs to the token after it, so a sequence that ends in one reaches into that token.
    return len(text[: start + len(sequence)].split(" ")), sequence


def _scripted_tool(request: MessagesRequest, directives: Directives, number: int) -> ToolUseBlock | None:
    """Choose the call that is next in this conversation: as many were made as its turns show."""
    if not directives.tool_calls or not request.tools:
        return None
    made = sum(_is_tool_use(block) for turn in request.messages for block in _blocks(turn))
    if made >= len(directives.tool_calls):
        return None
    call = directives.tool_calls[made]
    if all(tool.get("name") != call.name for tool in request.tools):
        return None
    return ToolUseBlock(id=f"toolu_01{number:022d}", name=call.name, input=call.input)


def _blocks(turn: MessageParam) -> list[Block]:
    return [] if isinstance(turn.content, str) or turn.role != "assistant" else turn.content


def _is_tool_use(block: Block) -> bool:
    return block.get("type") == "tool_use"


def _asked_tool(request: MessagesRequest, number: int) -> ToolUseBlock | None:
    choice = request.tool_choice
    if choice is not None and choice.type == "none":
        return None
    offered = [tool for tool in request.tools or () if isinstance(tool.get("input_schema"), dict)]
    if choice is not None and choice.type == "tool":
        chosen = next((tool for tool in offered if tool.get("name") == choice.name), None)
        if chosen is None:
            raise ApiFault(400, f"Tool '{choice.name}' not found in provided tools")
        return _use(chosen, number)
    if choice is not None and choice.type == "any" and offered:
        return _use(offered[0], number)
    said = _last_said(request) if offered else ""
    asked = next((tool for tool in offered if f"use {tool.get('name')}" in said), None)
    return None if asked is None else _use(asked, number)


def _last_said(request: MessagesRequest) -> str:
    last = request.messages[-1]
    if last.role != "user":
        return ""
    if isinstance(last.content, str):
        return last.content
    return "\n".join(str(block.get("text", "")) for block in last.content if block.get("type") == "text")


def _use(tool: Block, number: int) -> ToolUseBlock:
    try:
        schema = msgspec.convert(tool["input_schema"], _Schema)
    except msgspec.ValidationError as exc:
        raise ApiFault(400, "tools: input_schema does not match the expected shape.") from exc
    given = {name: _value_of(schema.properties.get(name)) for name in schema.required}
    return ToolUseBlock(id=f"toolu_01{number:022d}", name=str(tool.get("name")), input=given)


def _value_of(schema: Block | None) -> object:
    kind = schema.get("type") if schema else None
    values: dict[object, object] = {
        "integer": 1,
        "number": 1,
        "boolean": True,
        "array": [],
        "object": {},
    }
    return values.get(kind, "simulated") if isinstance(kind, str) else "simulated"


class _Schema(msgspec.Struct, frozen=True):
    properties: dict[str, Block] = {}
    required: tuple[str, ...] = ()


def _tool_tokens(tool: ToolUseBlock) -> int:
    return tokens_of_text(tool.name + _encoder.encode(tool.input).decode())


def _tool_of_family(request: MessagesRequest, family: str) -> Block | None:
    return next((tool for tool in request.tools or () if str(tool.get("type", "")).startswith(family)), None)
