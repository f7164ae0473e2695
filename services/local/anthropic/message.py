"""Puts one exchange's answer and usage together into the message that the API returns; holds no I/O."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from services.local.anthropic.answer import answer
from services.local.anthropic.content import (
    ContentBlock,
    FallbackBlock,
    FallbackModel,
    RefusalDetails,
    StopReason,
)
from services.local.anthropic.directives import Directives
from services.local.anthropic.models import Model
from services.local.anthropic.prompt import PromptCache, meet_cache
from services.local.anthropic.request import MessagesRequest
from services.local.anthropic.usage import Usage, delta_usage, final_usage, served_model, start_usage


class ContextManagement(msgspec.Struct, frozen=True, kw_only=True):
    """Lists what was done to the conversation before the model saw it."""

    applied_edits: tuple[str, ...] = ()


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as POST /v1/messages returns it, and as message_start opens it."""

    model: str
    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    content: tuple[ContentBlock, ...]
    stop_reason: StopReason | None
    stop_sequence: str | None
    stop_details: RefusalDetails | None
    usage: Usage | msgspec.Raw
    context_management: ContextManagement | UnsetType = UNSET


class SimulatedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A whole message, and what a stream tells of it at its start and at its end."""

    message: Message
    opening: Message
    closing_usage: Usage | msgspec.Raw


def simulate(
    request: MessagesRequest,
    model: Model,
    directives: Directives,
    cache: PromptCache,
    number: int,
    message_id: str,
) -> SimulatedMessage:
    """Answer one checked request; the cache is the only thing that changes."""
    said = answer(request, directives, number)
    prompt = meet_cache(request, cache)
    start = start_usage(request, prompt, directives)
    final = final_usage(request, start, prompt, said, directives)
    scripted = None if directives.usage is None else msgspec.Raw(directives.usage)
    served = served_model(model.id, directives)
    content = said.content
    if directives.iterations == "fallback":
        handed_over = FallbackBlock(source=FallbackModel(model=request.model), to=FallbackModel(model=served))
        content = (handed_over, *content)
    whole = Message(
        model=served,
        id=message_id,
        content=content,
        stop_reason=said.stop_reason,
        stop_sequence=said.stop_sequence,
        stop_details=said.stop_details,
        usage=final if scripted is None else scripted,
        context_management=ContextManagement() if directives.iterations == "compaction" else UNSET,
    )
    opening = Message(
        # A stream has opened before the requested model declines, so it opens under that model's name.
        model=model.id if directives.iterations == "fallback" else served,
        id=message_id,
        content=(),
        stop_reason=None,
        stop_sequence=None,
        stop_details=None,
        usage=start if directives.start_usage is None else msgspec.Raw(directives.start_usage),
    )
    return SimulatedMessage(
        message=whole,
        opening=opening,
        closing_usage=delta_usage(final) if scripted is None else scripted,
    )
