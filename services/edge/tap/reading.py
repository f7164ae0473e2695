"""Decides what the parts of an answer come to: totals laid over totals, and a floor where the end is missing.

message_delta carries totals of the whole message: a figure that is there and not null overwrites the one
of message_start, and one that is absent leaves it. An answer that breaks off is given a floor for its
output, which is an estimate. What a whole usage object says is decided in schemas/usage_rules.
"""

import msgspec

from schemas.usage_rules import COUNT_MAX, OUTPUT, Reading, Usage

# What Anthropic's own gateway takes for a token where it bills an answer that was broken off.
CHARS_PER_TOKEN = 4


def overwritten(start: Usage, delta: Usage) -> Usage:
    """Lay message_delta's usage over message_start's: what is there and not null replaces."""
    return {**start, **{name: value for name, value in delta.items() if value is not None}}


def unfinished(reading: Reading, output_floor_tokens: int) -> Reading:
    """Take a reading for that of an answer whose end was not seen.

    Where output was seen it used at least `output_floor_tokens`, which is an estimate of ours; the figure
    that message_start gives is a placeholder. Where none was seen, what message_start said is all.
    """
    if reading.usage_status == "none":
        return reading
    if not output_floor_tokens:
        return msgspec.structs.replace(reading, usage_status="partial")
    floor = min(max(reading.tokens.output_tokens, output_floor_tokens), COUNT_MAX)
    return msgspec.structs.replace(
        reading,
        usage_status="estimated",
        tokens=msgspec.structs.replace(reading.tokens, output_tokens=floor),
        estimated_dimensions=tuple(dict.fromkeys((*reading.estimated_dimensions, OUTPUT))),
    )


def output_floor(characters: int, thinking_tokens: int) -> int:
    """Say how many tokens an answer used at least, from the text and the thinking estimates in it."""
    return -(-characters // CHARS_PER_TOKEN) + thinking_tokens
