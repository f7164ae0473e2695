"""Cuts a list, newest first, into the pages that limit, after_id and before_id ask for; holds no list."""

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from services.local.anthropic.errors import ApiFault

PAGE_ITEMS_DEFAULT = 20
PAGE_ITEMS_MAX = 1000

Item = TypeVar("Item")
Query = Mapping[str, list[str]]


class Page(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """One page of a list."""

    data: tuple[Item, ...]
    has_more: bool
    first_id: str | None
    last_id: str | None


def page_of(ids: Sequence[str], query: Query, noun: str) -> tuple[Sequence[str], bool]:
    """Choose the ids of one page, and tell whether more lie behind it in the direction of the paging."""
    limit = page_limit(query)
    before = query.get("before_id", [""])[0]
    if before:
        end = _position(ids, before, noun)
        return ids[max(0, end - limit) : end], end > limit
    after = query.get("after_id", [""])[0]
    start = _position(ids, after, noun) + 1 if after else 0
    return ids[start : start + limit], start + limit < len(ids)


def page_limit(query: Query) -> int:
    """Read how many items a page may have."""
    text = query.get("limit", [str(PAGE_ITEMS_DEFAULT)])[0]
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= PAGE_ITEMS_MAX):
        raise ApiFault(400, f"limit: Input should be a whole number from 1 to {PAGE_ITEMS_MAX}")
    return int(text)


def _position(ids: Sequence[str], wanted: str, noun: str) -> int:
    try:
        return ids.index(wanted)
    except ValueError:
        raise ApiFault(400, f"Unknown {noun} id in the page cursor: {wanted}") from None
