"""Reads JSON of Anthropic's that msgspec alone refuses; holds no I/O."""

import re
from typing import TypeVar

import msgspec

from schemas.codec import UNREADABLE

Document = TypeVar("Document")

# Half of an emoji, written as an escape, is JSON that msgspec refuses even where nobody asks what it says.
_SURROGATE = re.compile(rb"(?<!\\)((?:\\\\)*)\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def decoded(decoder: msgspec.json.Decoder[Document], document: bytes | bytearray) -> Document | None:
    """Decode a document, halves of surrogate pairs replaced where they are in the way; None if it is none."""
    try:
        return decoder.decode(document)
    except UNREADABLE:
        pass
    try:
        return decoder.decode(_SURROGATE.sub(rb"\1\\ufffd", document))
    except UNREADABLE:
        return None
