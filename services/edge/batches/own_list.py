"""Completes the list of batches of a caller that may see only its own: asks for as many pages as it takes."""

import asyncio
from typing import NamedTuple

from services.edge.batches.listing import Listing, NotAPage, TooFar
from services.edge.batches.upstream import asked
from services.edge.headers import RawHeaders
from services.edge.refusals import BATCH_LIST_CUT, BATCH_LIST_TOO_LONG, Refusal
from services.edge.results_url import BATCH_BYTES_MAX
from services.edge.transport import AiohttpTransport

# For all pages: an SDK waits no longer than some minutes, and asks again.
LIST_S_MAX = 30.0


class ListCut(Exception):
    """Pages could not be had, so that the caller would miss batches of its own; the refusal says so."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class OwnList(NamedTuple):
    """One list call; `path` and `headers` are those that go up, for an answer without a coding."""

    listing: Listing
    path: bytes
    headers: RawHeaders

    async def completed(self, first: bytes, transport: AiohttpTransport) -> bytes:
        """Give the page that the caller gets for Anthropic's first one; ListCut where it cannot be had."""
        came = first
        try:
            async with asyncio.timeout(LIST_S_MAX):
                while (query := await asyncio.to_thread(self.listing.take, came)) is not None:
                    came = await asked(transport, self.path + b"?" + query, self.headers, BATCH_BYTES_MAX)
        except (NotAPage, TimeoutError) as exc:
            raise ListCut(BATCH_LIST_CUT) from exc
        except TooFar as exc:
            raise ListCut(BATCH_LIST_TOO_LONG) from exc
        return self.listing.answer()
