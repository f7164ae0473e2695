"""Carries what the meter reads of Anthropic's JSON; every other member is passed over without being kept."""

import msgspec


class Error(msgspec.Struct):
    """What went wrong."""

    type: str = ""


class Message(msgspec.Struct):
    """A message, the beginning of one, or an error in its place."""

    id: str = ""
    model: str = ""
    stop_reason: str | None = None
    usage: dict[str, object] | None = None
    type: str = ""
    error: Error | None = None


class MessageStart(msgspec.Struct):
    """The data of message_start."""

    message: Message


class Delta(msgspec.Struct):
    """What message_delta changes of the message."""

    stop_reason: str | None = None


class MessageDelta(msgspec.Struct):
    """The data of message_delta."""

    delta: Delta | None = None
    usage: dict[str, object] | None = None


class Model(msgspec.Struct):
    """The model on one side of a fallback."""

    model: str


class ContentBlock(msgspec.Struct):
    """A block of content; `to` where another model goes on."""

    type: str
    to: Model | None = None


class BlockStart(msgspec.Struct):
    """The data of content_block_start."""

    content_block: ContentBlock


class Output(msgspec.Struct):
    """What the model wrote: text, thinking, a tool's input; hidden thinking as `estimated_tokens`."""

    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    estimated_tokens: int | None = None


class BlockDelta(msgspec.Struct):
    """The data of content_block_delta."""

    delta: Output


MESSAGE = msgspec.json.Decoder(Message)
MESSAGE_START = msgspec.json.Decoder(MessageStart)
MESSAGE_DELTA = msgspec.json.Decoder(MessageDelta)
BLOCK_START = msgspec.json.Decoder(BlockStart)
BLOCK_DELTA = msgspec.json.Decoder(BlockDelta)
