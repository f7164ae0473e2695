"""Lays dated rows along time: when each holds, what one covers of another, where nothing holds."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from itertools import zip_longest
from typing import Generic, NamedTuple, TypeVar

from services.rating.book.rows import Span

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


class Dated(NamedTuple, Generic[Item_co]):
    """What holds from `start` until `end`, which it does not include; None is for ever."""

    start: datetime
    end: datetime | None
    item: Item_co

    def holds(self, at: datetime) -> bool:
        """Whether it holds at a time."""
        return self.start <= at and (self.end is None or at < self.end)

    def meets(self, other: "Dated[object]") -> bool:
        """Whether there is a time at which both hold."""
        return (self.end is None or other.start < self.end) and (other.end is None or self.start < other.end)


def laid(rows: Iterable[tuple[Span, Item]], where: str, faults: list[str]) -> tuple[Dated[Item], ...]:
    """Order rows by time; one that names no end lasts until the next begins, and none may overlap."""
    ordered = sorted(rows, key=lambda row: row[0].effective_from)
    periods: list[Dated[Item]] = []
    starts_after = [following.effective_from for following, _ in ordered[1:]]
    for (span, item), starts in zip_longest(ordered, starts_after):
        end = span.effective_to
        if starts is not None:
            if end is None and span.effective_from < starts:
                end = starts
            elif end is None or end > starts:
                faults.append(f"{where}: two rows overlap on {starts}")
        periods.append(Dated(midnight(span.effective_from), end and midnight(end), item))
    return tuple(periods)


def overlaid(base: Sequence[Dated[Item]], over: Sequence[Dated[Item]]) -> tuple[Dated[Item], ...]:
    """Put `over` in place of what `base` holds at the same time; the rest of `base` stays."""
    left = list(base)
    for cover in over:
        left = [piece for each in left for piece in _without(each, cover)]
    return tuple(sorted((*left, *over), key=lambda each: each.start))


def holding(periods: Iterable[Dated[Item]], at: datetime) -> Item | None:
    """Give what holds at a time, the first of several."""
    return next((each.item for each in periods if each.holds(at)), None)


def edges(*many: Iterable[Dated[Item]]) -> list[datetime]:
    """Give every moment at which something begins or ends."""
    return sorted({edge for periods in many for each in periods for edge in each[:2] if edge is not None})


def midnight(day: date) -> datetime:
    """Give the first moment of a day in UTC."""
    return datetime.combine(day, time(), UTC)


def _without(piece: Dated[Item], cover: Dated[object]) -> Iterable[Dated[Item]]:
    if not piece.meets(cover):
        yield piece
        return
    if piece.start < cover.start:
        yield piece._replace(end=cover.start)
    if cover.end is not None and (piece.end is None or cover.end < piece.end):
        yield piece._replace(start=cover.end)
