"""A price book as rating holds it; published on gateway.price_books.v1 before anything is priced by it."""

from datetime import datetime

import msgspec


class PriceBookPublished(msgspec.Struct, frozen=True, kw_only=True):
    """One edition of the price book; of two with the same `book_seq` the first in the log is the book.

    `book_hash` is the sha256 of what the book says, as on every rated usage; `label` is what
    `price_book` is there. `content` is the book as JSON, the operator's overrides worked in, with who
    vouches for each price.
    """

    book_seq: int
    book_hash: str
    label: str
    published_at: datetime
    content: str
