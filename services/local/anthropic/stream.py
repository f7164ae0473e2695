"""Writes a message as the server-sent events of a stream, padded as the real API pads them; holds no I/O."""

import re
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from services.local.anthropic.content import (
    CompactionBlock,
    ContentBlock,
    ServerToolUseBlock,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
)
from services.local.anthropic.errors import ApiFault, error_event_data
from services.local.anthropic.message import SimulatedMessage
from services.local.anthropic.request import Block

DELTA_TOKENS = 4  # tokens in one text_delta
INPUT_DELTA_CHARS = 8  # characters in one input_json_delta
ESTIMATE_QUANTUM_TOKENS = 10  # hidden thinking is reported in steps of this many tokens
PADDING_PERIOD = 16  # the real API pads event data by up to fifteen blanks
DELTAS_CACHED_MAX = 256

_encode = msgspec.json.Encoder().encode

# Data ends in a run of blanks before its last brace: "...}          }". The blanks carry no meaning.
_ENDINGS = tuple(b" " * blanks + b"}\n\n" for blanks in range(PADDING_PERIOD))
_PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%s'
_START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%s'
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d'


class StreamStyle(msgspec.Struct, frozen=True, kw_only=True):
    """How one stream is cut into events."""

    delta_tokens: int = DELTA_TOKENS
    counts_thinking: bool = False  # the request set the thinking-token-count beta


PLAIN_STYLE = StreamStyle()


def stream_events(simulated: SimulatedMessage, style: StreamStyle, number: int) -> list[bytes]:
    """Write every event of the stream; `number` is the exchange's and varies the padding."""
    events: list[bytes] = []
    for position, unfinished in enumerate(_unfinished_events(simulated, style)):
        if unfinished is _PING:
            events.append(_PING)
        else:
            events.append(unfinished + _ENDINGS[(number * 7 + position * 5) % PADDING_PERIOD])
    return events


def error_event(fault: ApiFault, request_id: str) -> bytes:
    """Write the event that ends a stream which failed after its start."""
    return b"event: error\ndata: " + error_event_data(fault, request_id) + b"\n\n"


def _unfinished_events(simulated: SimulatedMessage, style: StreamStyle) -> Iterator[bytes]:
    """Write the events less their closing brace, which the padding precedes."""
    opening = _encode(simulated.opening)
    yield b'event: message_start\ndata: {"type":"message_start","message":' + opening
    thinking_tokens = _thinking_tokens(simulated)
    for index, block in enumerate(simulated.message.content):
        started, deltas = _block_events(block, style, thinking_tokens)
        yield _START % (index, started)
        if index == 0:
            yield _PING
        for delta in deltas:
            yield _DELTA % (index, delta)
        yield _STOP % index
    yield b'event: message_delta\ndata: {"type":"message_delta",' + _closing(simulated)
    yield b'event: message_stop\ndata: {"type":"message_stop"'


def _closing(simulated: SimulatedMessage) -> bytes:
    message = simulated.message
    delta = b'"delta":{"stop_reason":%s,"stop_sequence":%s,"stop_details":%s},"usage":%s' % (
        _encode(message.stop_reason),
        _encode(message.stop_sequence),
        _encode(message.stop_details),
        _encode(simulated.closing_usage),
    )
    if message.context_management is msgspec.UNSET:
        return delta
    return delta + b',"context_management":' + _encode(message.context_management)


def _thinking_tokens(simulated: SimulatedMessage) -> int:
    usage = simulated.closing_usage
    if isinstance(usage, msgspec.Raw) or usage.output_tokens_details is msgspec.UNSET:
        return 0
    return usage.output_tokens_details.thinking_tokens


def _block_events(
    block: ContentBlock, style: StreamStyle, thinking_tokens: int
) -> tuple[bytes, tuple[bytes, ...]]:
    """Write a block as it starts, and the deltas that fill it; a block without deltas starts whole."""
    match block:
        case TextBlock(citations=None):
            return b'{"type":"text","text":""}', _text_deltas(block.text, style.delta_tokens)
        case TextBlock():
            cited = tuple(
                b'{"type":"citations_delta","citation":%s}' % _encode(citation)
                for citation in block.citations or ()
            )
            spoken = _text_deltas(block.text, style.delta_tokens)
            return b'{"citations":[],"type":"text","text":""}', cited + spoken
        case ThinkingBlock():
            started = b'{"type":"thinking","thinking":"","signature":""}'
            return started, _thinking_deltas(block, style, thinking_tokens)
        case ToolUseBlock() | ServerToolUseBlock():
            started = _encode(
                {"type": block.__struct_config__.tag, "id": block.id, "name": block.name, "input": {}}
            )
            return started, _input_deltas(block.input)
        case CompactionBlock():
            filled = b'{"type":"compaction_delta","content":%s}' % _encode(block.content)
            return b'{"type":"compaction","content":null}', (filled,)
        case _:
            return _encode(block), ()


@lru_cache(maxsize=DELTAS_CACHED_MAX)
def _text_deltas(text: str, delta_tokens: int) -> tuple[bytes, ...]:
    tokens = re.findall(r"\s*\S+\s*$|\s*\S+", text)
    return tuple(
        b'{"type":"text_delta","text":%s}' % _encode("".join(tokens[start : start + delta_tokens]))
        for start in range(0, len(tokens), delta_tokens)
    )


def _thinking_deltas(block: ThinkingBlock, style: StreamStyle, thinking_tokens: int) -> tuple[bytes, ...]:
    signed = b'{"type":"signature_delta","signature":%s}' % _encode(block.signature)
    if block.thinking:
        estimate = b',"estimated_tokens":null' if style.counts_thinking else b""
        thought = b'{"type":"thinking_delta","thinking":%s%s}' % (_encode(block.thinking), estimate)
        return (thought, signed)
    if not style.counts_thinking:
        return (signed,)
    step = b'{"type":"thinking_delta","thinking":"","estimated_tokens":%d}' % ESTIMATE_QUANTUM_TOKENS
    return (step,) * (thinking_tokens // ESTIMATE_QUANTUM_TOKENS) + (signed,)


def _input_deltas(given: Block) -> tuple[bytes, ...]:
    text = _encode(given).decode()
    pieces = [
        "",
        *(text[start : start + INPUT_DELTA_CHARS] for start in range(0, len(text), INPUT_DELTA_CHARS)),
    ]
    return tuple(b'{"type":"input_json_delta","partial_json":%s}' % _encode(piece) for piece in pieces)
