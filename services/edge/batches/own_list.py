"""Completes the list of batches of a caller that may see only its own: asks for as many pages as it takes."""

import asyncio
from typing import NamedTuple

from services.edge.batches.listing import Listing, NotAPage, TooFar
from services.edge.batches.upstream import asked
from services.edge.headers import RawHeaders
from services.edge.results_url import BATCH_BYTES_MAX
from services.edge.transport import AiohttpTransport


class ListCut(Exception):
    """A page could not be had, so that the caller would miss batches of its own."""


class OwnList(NamedTuple):
    """One list call; `path` and `headers` are those that go up, for an answer without a coding."""

    listing: Listing
    path: bytes
    headers: RawHeaders

    async def completed(self, first: bytes, transport: AiohttpTransport) -> bytes:
        """Give the page that the caller gets for Anthropic's first one; ListCut where it cannot be had."""
        came = first
        try:
            while (query := await asyncio.to_thread(self.listing.take, came)) is not None:
                came = await asked(transport, self.path + b"?" + query, self.headers, BATCH_BYTES_MAX)
        except (NotAPage, TooFar) as exc:
            raise ListCut(type(exc).__name__) from exc
        return self.listing.answer()
