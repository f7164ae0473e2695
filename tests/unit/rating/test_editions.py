"""The built-in book under its number: an edition that is out never says anything else."""

from importlib import resources

from services.rating.book.editions import edition_fault, editions
from services.rating.book.file import parse
from tests.unit.rating.cases import BOOK

HASH = "0" * 64


def test_the_built_in_book_is_the_latest_edition_and_written_down():
    assert max(editions()) == BOOK.book_seq // 1000
    assert editions()[BOOK.book_seq // 1000] == BOOK.content_hash


def test_editions_are_numbered_one_after_the_other_and_all_differ():
    written = editions()
    assert list(written) == list(range(1, len(written) + 1))
    assert len(set(written.values())) == len(written)


def test_what_was_out_is_still_written_down():
    """Events name these books: a line that changes here would make them strangers."""
    assert editions()[1] == "1a5cb2a06bd719a8e6a811f40e6cea0f3e759bf39eabd6d99f004c985d803f79"


def test_a_book_that_says_something_else_under_a_number_that_is_out_is_refused():
    latest = max(editions())
    assert list(edition_fault(latest, HASH)) == [
        f"book_seq: {latest} is out with other prices: raise it to {latest + 1} and add the line "
        f"`{latest + 1}: {HASH}` to editions.yaml"
    ]


def test_a_price_that_changes_in_the_built_in_book_is_refused_until_its_number_rises():
    text = resources.files("services.rating.book").joinpath("prices.yaml").read_text()
    changed = parse(text.replace('input: "8"', 'input: "9"', 1).encode(), "prices.yaml")
    remarked = parse(f"# a remark\n{text}".replace("checked: 2026-11-22", "checked: 2026-11-23").encode(), "")
    number = BOOK.book_seq // 1000
    assert list(edition_fault(number, changed.content_hash))
    assert not list(edition_fault(number, remarked.content_hash))


def test_a_number_that_is_not_written_down_is_refused_with_the_line_to_add():
    assert list(edition_fault(999, HASH)) == [
        f"book_seq: 999 is not in editions.yaml: add the line `999: {HASH}`"
    ]


def test_a_number_with_its_own_content_is_fine():
    assert list(edition_fault(1, editions()[1])) == []
