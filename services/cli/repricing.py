"""Decides what pricing the past anew would change, row by row and in sum; holds no I/O."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from schemas import codec
from schemas.rated import RatedUsage
from schemas.topics import RATED
from schemas.usage import UsageRecorded
from services.rating.book.price_book import PriceBook
from services.rating.errors import ImplausibleUsage
from services.rating.exact import EXACT, ZERO, plain
from services.rating.pricing import rate
from services.rating.what_if import as_if_served_by
from services.runtime.records import OutgoingRecord

Standing = Literal["behind", "current", "higher", "conflict"]
"""How the book of a row lies to ours: lower, the very same, higher, or another one of the same number."""

# Names beyond this many, of models that nobody has or of keys, are added up as one.
GROUPS_MAX = 10_000
OTHERS = "(others)"


class Difference(msgspec.Struct, kw_only=True):
    """What a group of rows costs now and would cost; an unknown cost adds nothing, and is counted.

    `book_usd` is what our book says of it as it was, which is `new_usd` unless another model is put in.
    """

    rows: int = 0
    old_usd: Decimal = ZERO
    book_usd: Decimal = ZERO
    new_usd: Decimal = ZERO
    newly_priced: int = 0
    newly_unpriced: int = 0
    unpriced: int = 0

    @property
    def difference_usd(self) -> Decimal:
        """How much more the rows would cost."""
        return plain(EXACT.subtract(self.new_usd, self.old_usd))

    @property
    def of_book_usd(self) -> Decimal:
        """How much of that is the book's doing."""
        return plain(EXACT.subtract(self.book_usd, self.old_usd))

    @property
    def of_what_if_usd(self) -> Decimal:
        """How much of that is the other model's doing."""
        return plain(EXACT.subtract(self.new_usd, self.book_usd))

    def add(self, old: RatedUsage, by_book: RatedUsage, new: RatedUsage) -> None:
        """Add one row."""
        was_known, is_known = _is_known(old), _is_known(new)
        self.rows += 1
        self.old_usd = plain(EXACT.add(self.old_usd, old.cost_usd))
        self.book_usd = plain(EXACT.add(self.book_usd, by_book.cost_usd))
        self.new_usd = plain(EXACT.add(self.new_usd, new.cost_usd))
        self.newly_priced += is_known and not was_known
        self.newly_unpriced += was_known and not is_known
        self.unpriced += not is_known


class Survey:
    """What a run would do: the rows by the standing of their book, and the differences by model and key."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self.standings: dict[Standing, int] = {"behind": 0, "current": 0, "higher": 0, "conflict": 0}
        self.book_seq_max = 0
        self.implausible = 0
        self.total = Difference()
        self.by_model: dict[str, Difference] = {}
        self.by_key: dict[str, Difference] = {}

    def add(self, old: RatedUsage) -> None:
        """Take one row into account; only one that is behind is priced."""
        standing = standing_of(old, self._book)
        self.standings[standing] += 1
        self.book_seq_max = max(self.book_seq_max, old.book_seq)
        if standing == "behind":
            by_book = _priced(old.usage, self._book)
            self._compare(old, by_book, by_book)

    def add_as_if(self, model: str, old: RatedUsage) -> None:
        """Take one row into account as if another model had served it."""
        by_book = _priced(old.usage, self._book)
        self._compare(old, by_book, _priced(as_if_served_by(model, old.usage), self._book))

    def _compare(self, old: RatedUsage, by_book: RatedUsage | None, new: RatedUsage | None) -> None:
        if by_book is None or new is None:
            self.implausible += 1
            return
        usage = old.usage
        model = usage.model_served or usage.model_requested or usage.operation
        for difference in (
            self.total,
            _group(self.by_model, model),
            _group(self.by_key, usage.attribution.virtual_key_id),
        ):
            difference.add(old, by_book, new)


def standing_of(row: RatedUsage, book: PriceBook) -> Standing:
    """Say how the book of a row lies to ours; rows of an earlier release know theirs by the label alone."""
    if row.book_seq != book.book_seq:
        return "behind" if row.book_seq < book.book_seq else "higher"
    is_same = row.book_hash == book.content_hash if row.book_hash else row.price_book == book.label
    return "current" if is_same else "conflict"


def revisions(rows: Iterable[RatedUsage], book: PriceBook, booked_at: datetime) -> list[OutgoingRecord]:
    """Price what is behind; these are what the sink and every subscriber believe from now on."""
    behind = (row.usage for row in rows if standing_of(row, book) == "behind")
    priced = (_priced(usage, book) for usage in behind)
    return [
        _record(msgspec.structs.replace(rated, booked_at=booked_at)) for rated in priced if rated is not None
    ]


def largest(groups: Mapping[str, Difference], count: int) -> list[tuple[str, Difference]]:
    """Give the groups with the largest differences first, then with the most rows."""
    ordered = sorted(groups.items(), key=lambda item: (-abs(item[1].difference_usd), -item[1].rows, item[0]))
    return ordered[:count]


def _priced(usage: UsageRecorded, book: PriceBook) -> RatedUsage | None:
    """Price a usage; None where this release no longer takes it for true, so that its row stays as it is."""
    try:
        return rate(usage, book)
    except ImplausibleUsage:
        return None


def _record(rated: RatedUsage) -> OutgoingRecord:
    started_at: str = msgspec.to_builtins(rated.usage.started_at)
    return OutgoingRecord(RATED, codec.key(rated), codec.encode(rated), codec.headers(rated, started_at))


def _group(groups: dict[str, Difference], name: str) -> Difference:
    if name not in groups and len(groups) >= GROUPS_MAX:
        name = OTHERS
    return groups.setdefault(name, Difference())


def _is_known(rated: RatedUsage) -> bool:
    return rated.cost_status in ("priced", "zero")
