"""The public contract: a usage fact and what it cost at one price book; published on gateway.rated.v1."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from schemas.ids import RatedId
from schemas.usage import UsageRecorded

Dimension = Literal[
    "input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "web_search", "web_fetch"
]
"""What a cost line is for; tokens in all but the last two, which count requests."""

CostStatus = Literal[
    "priced",  # every dimension has a price
    "partial",  # the known dimensions are priced, `unpriced_dimensions` names the others
    "unpriced",  # no price is known: the cost is unknown, not zero
    "zero",  # known to be free
]
"""What `cost_usd` means: only `priced` and `zero` are the whole cost."""


class CostLine(msgspec.Struct, frozen=True, kw_only=True):
    """One billing dimension of one model: amount_usd = units x unit_price_usd x multiplier, exactly."""

    model: str
    dimension: Dimension
    units: int
    unit_price_usd: Decimal
    multiplier: Decimal
    amount_usd: Decimal


class RatedUsage(msgspec.Struct, frozen=True, kw_only=True):
    """A usage fact priced at one book; of two with the same usage the higher `row_version` is right.

    `book_hash` is the sha256 of the book's content: two books with one `book_seq` are never both used.
    `booked_at` is when the cost came to stand: the usage's arrival in Kafka or the book's publication,
    whichever was later, or the run that priced the past anew; it is the same in every replay.
    """

    rated_id: RatedId
    usage: UsageRecorded
    cost_status: CostStatus
    cost_usd: Decimal
    cost_lines: tuple[CostLine, ...]
    price_book: str
    book_seq: int
    row_version: int
    unpriced_dimensions: tuple[str, ...] = ()
    book_hash: str = ""
    booked_at: datetime | None = None


def row_version(usage: UsageRecorded, book_seq: int) -> int:
    """Rank the versions of one usage row: a real ending above an orphaned one, then the later book."""
    stage = 0 if usage.outcome == "orphaned" else 1
    return stage << 32 | book_seq
