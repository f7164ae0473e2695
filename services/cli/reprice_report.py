"""Says what a survey of the past found, in lines for a person or as one JSON object; holds no I/O."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from services.cli.columns import table
from services.cli.repricing import Difference, Survey, largest
from services.rating.book.price_book import PriceBook

# What a person reads before saying yes; --json gives all.
GROUPS_SHOWN_MAX = 40
_COUNTS = ("newly priced", "newly unpriced", "unpriced")
_HEADS = ("rows", "old_usd", "new_usd", "difference", *_COUNTS)
_WHAT_IF_HEADS = ("rows", "old_usd", "by the book", "as if", "of the book", "of the what-if", *_COUNTS)


_Cells = tuple[int | Decimal, ...]


class GroupShown(msgspec.Struct, frozen=True, kw_only=True):
    """One group of rows as JSON has it."""

    name: str
    rows: int
    old_usd: Decimal
    new_usd: Decimal
    difference_usd: Decimal
    newly_priced: int
    newly_unpriced: int
    unpriced: int
    book_usd: Decimal
    of_book_usd: Decimal
    of_what_if_usd: Decimal


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A survey and what came of it, as JSON has it."""

    price_book: str
    book_seq: int
    what_if: str
    rows: Mapping[str, int]
    total: GroupShown
    by_model: tuple[GroupShown, ...]
    by_key: tuple[GroupShown, ...]
    published: int


def report(survey: Survey, book: PriceBook, what_if: str, published: int) -> Report:
    """Put everything into one object; its groups are in the order of what changes most."""
    return Report(
        price_book=book.label,
        book_seq=book.book_seq,
        what_if=what_if,
        rows={**survey.standings},
        total=_shown("total", survey.total),
        by_model=_all_shown(survey.by_model),
        by_key=_all_shown(survey.by_key),
        published=published,
    )


def lines(survey: Survey, book: PriceBook, what_if: str) -> Iterable[str]:
    """Say it for a person: by model, by key, and what stays as it is."""
    if survey.total.rows:
        cells, heads = (_what_if_cells, _WHAT_IF_HEADS) if what_if else (_cells, _HEADS)
        yield from _table(("model", *heads), survey.by_model, cells)
        yield ""
        yield from _table(("key", *heads), survey.by_key, cells)
        yield ""
        yield table(("", *heads), [("total", *cells(survey.total))])
        yield ""
    subject = f"as if served by {what_if}, by {book.label}" if what_if else f"by {book.label}"
    yield f"{survey.total.rows} rows priced {subject}, book_seq {book.book_seq}"
    if survey.total.unpriced:
        yield f"{survey.total.unpriced} rows have no whole price then: new_usd is without what is unknown"
    if survey.total.newly_unpriced:
        yield f"{survey.total.newly_unpriced} of them had one, so that the difference is too low"
    if survey.standings["current"]:
        yield f"{survey.standings['current']} rows were priced by this book already"
    if survey.standings["higher"]:
        yield (
            f"{survey.standings['higher']} rows are at a higher book_seq, up to {survey.book_seq_max}: "
            "they stay as they are"
        )
    if survey.standings["conflict"]:
        yield f"{survey.standings['conflict']} rows have another book of the same book_seq"
    if survey.implausible:
        yield f"{survey.implausible} rows cannot be true and stay as they are"


def refusal(survey: Survey, book: PriceBook) -> str:
    """Say why nothing may be written; "" where it may."""
    if survey.standings["conflict"]:
        return (
            f"{survey.standings['conflict']} rows were priced by another book of book_seq {book.book_seq}: "
            "raise the book_seq of the book, or the edition of the overrides, with every change."
        )
    if survey.standings["higher"]:
        return (
            f"{survey.standings['higher']} rows are at a higher book_seq, up to {survey.book_seq_max}, than "
            f"{book.label} with {book.book_seq}, and stay as they are: use the later book, or choose --since "
            "and --until so that none of them is among the rows."
        )
    return ""


def _table(
    heads: Sequence[str], groups: Mapping[str, Difference], cells: Callable[[Difference], _Cells]
) -> Iterable[str]:
    shown = largest(groups, GROUPS_SHOWN_MAX)
    yield table(heads, [(name or "(none)", *cells(each)) for name, each in shown])
    if len(groups) > len(shown):
        yield f"and {len(groups) - len(shown)} more, with smaller differences"


def _cells(each: Difference) -> _Cells:
    return (each.rows, each.old_usd, each.new_usd, each.difference_usd, *_counts(each))


def _what_if_cells(each: Difference) -> _Cells:
    """Keep what the book changed apart from what the other model does."""
    money = (each.old_usd, each.book_usd, each.new_usd, each.of_book_usd, each.of_what_if_usd)
    return (each.rows, *money, *_counts(each))


def _counts(each: Difference) -> tuple[int, int, int]:
    return (each.newly_priced, each.newly_unpriced, each.unpriced)


def _all_shown(groups: Mapping[str, Difference]) -> tuple[GroupShown, ...]:
    return tuple(_shown(name, each) for name, each in largest(groups, len(groups)))


def _shown(name: str, each: Difference) -> GroupShown:
    return GroupShown(
        name=name,
        rows=each.rows,
        old_usd=each.old_usd,
        new_usd=each.new_usd,
        difference_usd=each.difference_usd,
        newly_priced=each.newly_priced,
        newly_unpriced=each.newly_unpriced,
        unpriced=each.unpriced,
        book_usd=each.book_usd,
        of_book_usd=each.of_book_usd,
        of_what_if_usd=each.of_what_if_usd,
    )
