"""Names the ways rating may fail, by what the caller does next."""

from collections.abc import Sequence

from services.runtime.errors import StartRefused, TollhouseError


class PriceBookFaults(StartRefused):
    """The price book cannot be used: the text names every fault, a line each; the process does not start."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        super().__init__(
            "\n".join([f"the price book {source} has faults:", *(f"  - {each}" for each in faults)])
        )
        self.faults = tuple(faults)


class ImplausibleUsage(TollhouseError):
    """The event decodes but cannot be true (a negative count, a time without zone): set it aside."""
