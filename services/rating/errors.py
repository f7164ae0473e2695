"""Names the ways rating may fail, by what the caller does next."""

from collections.abc import Mapping, Sequence

from services.runtime.errors import StartRefused, TollhouseError


class PriceBookFaults(StartRefused):
    """The price book cannot be used: the text names every fault of every file, a line each; no start."""

    def __init__(self, faults: Mapping[str, Sequence[str]]) -> None:
        at_fault = {source: each for source, each in faults.items() if each}
        super().__init__(
            "\n".join(
                "\n".join([f"the price book {source} has faults:", *(f"  - {fault}" for fault in each)])
                for source, each in at_fault.items()
            )
        )
        self.faults = tuple(fault for each in at_fault.values() for fault in each)


class ImplausibleUsage(TollhouseError):
    """The event decodes but cannot be true (a negative count, a time without zone): set it aside."""


class BookNumberTaken(StartRefused):
    """Another book was published under this one's number: give it a higher one; nothing is priced."""


class BookTooLarge(StartRefused):
    """No record on Kafka holds the book: it cannot be used."""


class BookUnreadable(TollhouseError):
    """A stored price book is of a release with other members: show less, or ask that release."""


class BooksUnreachable(TollhouseError):
    """Kafka is away, so that nobody knows which book has which number: wait and ask again."""
