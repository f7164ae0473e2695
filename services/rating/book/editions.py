"""Holds the built-in book to its number: an edition, once out, never says anything else."""

from collections.abc import Iterable, Mapping
from importlib import resources
from typing import cast

import yaml

EDITIONS = "editions.yaml"


def edition_fault(book_seq: int, content_hash: str) -> Iterable[str]:
    """Say what is wrong where the book of this number does not have the content that was written down."""
    written = editions()
    known = written.get(book_seq)
    if known == content_hash:
        return
    if known is None:
        yield f"book_seq: {book_seq} is not in {EDITIONS}: add the line `{book_seq}: {content_hash}`"
        return
    yield (
        f"book_seq: {book_seq} is out with other prices: raise it to {max(written) + 1} and add the line "
        f"`{max(written) + 1}: {content_hash}` to {EDITIONS}"
    )


def editions() -> Mapping[int, str]:
    """Give the content hash of every edition of the built-in book, by its book_seq."""
    text = resources.files("services.rating.book").joinpath(EDITIONS).read_bytes()
    return cast("Mapping[int, str]", yaml.safe_load(text))
