"""Decides what a caller that may see only its own batches sees of Anthropic's list, page by page; pure.

All keys behind one credential share that list. A caller gets as many of its own batches as it asked for, so
more pages may have to be asked for than one: SDKs take a page without batches for the end of the list.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

import msgspec

from schemas.codec import UNREADABLE
from services.edge.batches.objects import BatchObject, batch_in, page_in
from services.edge.batches.owners import Span

# Anthropic's default for `limit`, and its most.
LIMIT_DEFAULT = 20
LIMIT_MAX = 1000
# Asked for after the first, of LIMIT_MAX batches each.
PAGES_MAX = 50

_CURSORS = ("after_id", "before_id")
_NOBODYS = Span(datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC))


class _Own(NamedTuple):
    batch_id: str
    text: msgspec.Raw


class NotAPage(Exception):
    """The answer is no page of batches that can be read."""


class TooFar(Exception):
    """PAGES_MAX pages showed none of the caller's, and there are more."""


def cursors_in(query: bytes) -> list[str]:
    """Name the batches that a list call would begin behind, or before; each as often as it stands there."""
    asked = parse_qsl(query.decode("ascii"), keep_blank_values=True)
    return [value for name, value in asked if name in _CURSORS and value]


class Listing:
    """One call: `take` an answer and send the query that it gives, until it gives none; then `answer`.

    `span` says between which moments everything of the caller's was made; beyond it nothing is looked for.
    """

    def __init__(self, query: bytes, may_see: Callable[[str], bool], span: Span | None) -> None:
        self._asked = parse_qsl(query.decode("ascii"), keep_blank_values=True)
        given = dict(self._asked)
        self._limit = _limit(given)
        self._cursor = "before_id" if given.get("before_id") else "after_id"
        self._may_see = may_see
        self._span = span or _NOBODYS
        self._first: dict[str, msgspec.Raw] | None = None
        self._own: list[_Own] = []
        self._has_more = False
        self._pages = 0
        self._as_it_came = b""

    def take(self, body: bytes) -> bytes | None:
        """Take in a page and give the query for the next one, None where it is enough; NotAPage, TooFar."""
        page = page_in(body)
        if page is None or page.data is None:
            raise NotAPage
        if self._first is None:
            self._first = _members(body)
        batches = [(text, batch) for text in page.data if isinstance(batch := batch_in(text), BatchObject)]
        own = [_Own(batch.id, text) for text, batch in batches if self._may_see(batch.id)]
        if page.data and not batches:
            raise NotAPage
        self._pages += 1
        is_full = self._put(own)
        farthest = batches[0 if self._is_backward else -1][1] if batches else None
        is_last = not page.has_more or farthest is None or self._is_beyond(farthest.created_at)
        self._has_more = is_full or not is_last
        is_whole = self._pages == 1 and len(self._own) == len(page.data) and self._has_more == page.has_more
        self._as_it_came = body if is_whole else b""
        if is_full or is_last or len(self._own) == self._limit:
            return None
        assert farthest is not None, "a page without batches is the last"
        if self._pages > PAGES_MAX:
            if not self._own:
                raise TooFar
            return None  # the caller goes on behind the last of its own
        return self._query(farthest.id)

    def answer(self) -> bytes:
        """Write the page that the caller gets: one that is all its own as it came, else with its batches."""
        if self._as_it_came:
            return self._as_it_came
        assert self._first is not None, "an answer is written when there is one"
        ids = [each.batch_id for each in self._own]
        first, last = (ids[0], ids[-1]) if ids else (None, None)
        page = {
            "data": [each.text for each in self._own],
            "has_more": self._has_more,
            "first_id": first,
            "last_id": last,
        }
        return msgspec.json.encode({**self._first, **page})

    @property
    def _is_backward(self) -> bool:
        return self._cursor == "before_id"

    def _put(self, own: list[_Own]) -> bool:
        """Keep those nearest to where the list began; True where there was one too many."""
        room = self._limit - len(self._own)
        if self._is_backward:
            self._own = own[len(own) - min(room, len(own)) :] + self._own
        else:
            self._own += own[:room]
        return len(own) > room

    def _is_beyond(self, created_at: datetime) -> bool:
        return created_at > self._span.newest if self._is_backward else created_at < self._span.oldest

    def _query(self, cursor: str) -> bytes:
        """Ask for as much as there is behind a batch; what else the caller asked for stays."""
        others = [each for each in self._asked if each[0] not in ("limit", *_CURSORS)]
        return urlencode([*others, ("limit", str(LIMIT_MAX)), (self._cursor, cursor)]).encode()


def _limit(given: Mapping[str, str]) -> int:
    """Read how many are asked for; what Anthropic would not take it answers for itself."""
    text = given.get("limit", "")
    is_number = text.isascii() and text.isdigit() and len(text) <= 4
    return max(1, min(int(text), LIMIT_MAX)) if is_number else LIMIT_DEFAULT


def _members(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except UNREADABLE as exc:
        raise NotAPage from exc
