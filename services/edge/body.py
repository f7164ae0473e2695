"""Reads what the meter needs out of a request body, and cuts `litellm_metadata` out of it.

Without that member the body stays the very bytes that came; with it, every byte around the member does.
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple, cast

import msgspec

from schemas.codec import UNREADABLE

METADATA_KEY = "litellm_metadata"


class _View(msgspec.Struct):
    model: object = None
    stream: object = None
    metadata: object = None
    litellm_metadata: object = msgspec.UNSET


class BodyView(NamedTuple):
    """What one request body says to the meter; empty where it is not a JSON object."""

    model: str = ""
    is_stream: bool = False
    user_id: str = ""
    litellm_metadata: Mapping[str, object] = MappingProxyType({})


_VIEW = msgspec.json.Decoder(_View)

# A string, or a character that opens, closes or separates; white space and literals lie between matches.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\],:]', re.DOTALL)


def read_body(body: bytes) -> tuple[BodyView, bytes]:
    """Give what the body says, and the body that goes upstream.

    What is not a JSON object passes as it came: upstream answers for it in its own words.
    """
    try:
        view = _VIEW.decode(body)
    except UNREADABLE:
        return BodyView(), body
    user_id = _object(view.metadata).get("user_id")
    seen = BodyView(
        model=view.model if isinstance(view.model, str) else "",
        is_stream=view.stream is True,
        user_id=user_id if isinstance(user_id, str) else "",
        litellm_metadata=_object(view.litellm_metadata),
    )
    return seen, body if view.litellm_metadata is msgspec.UNSET else without_member(body, METADATA_KEY)


def without_member(body: bytes, name: str) -> bytes:
    """Cut every top-level member called `name`, with one comma each, out of a valid JSON object."""
    members = list(_members(body))
    goes = [msgspec.json.decode(body[member.start : member.key_end]) == name for member in members]
    last_kept = max((index for index, gone in enumerate(goes) if not gone), default=-1)
    # Before the last member that stays, a cut takes the comma behind it; after it, the comma before it.
    cuts = [(members[i].start, members[i + 1].start) for i in range(last_kept) if goes[i]]
    if last_kept + 1 < len(members):
        begin = members[last_kept].end if last_kept >= 0 else members[0].start
        cuts.append((begin, members[-1].end))
    pieces: list[bytes] = []
    kept_to = 0
    for begin, end in cuts:
        pieces.append(body[kept_to:begin])
        kept_to = end
    return b"".join((*pieces, body[kept_to:]))


class _Member(NamedTuple):
    start: int  # of the key's opening quote
    key_end: int
    end: int  # behind the value, white space not included


def _members(body: bytes) -> Iterator[_Member]:
    """Walk the top level of a valid JSON object; nested values are passed over by their brackets."""
    depth = 0
    start = key_end = -1
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
            if depth == 0 and start >= 0:
                yield _Member(start, key_end, _trimmed(body, token.start()))
        elif depth == 1 and first == 0x2C:  # a comma ends a member
            yield _Member(start, key_end, _trimmed(body, token.start()))
            start = -1
        elif depth == 1 and start < 0:
            start, key_end = token.start(), token.end()


def _trimmed(body: bytes, end: int) -> int:
    while body[end - 1] in b" \t\r\n":
        end -= 1
    return end


def _object(value: object) -> Mapping[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
