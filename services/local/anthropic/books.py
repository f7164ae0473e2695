"""Keeps what the simulated API would put on the bill, one entry a message; knows no price."""

from collections import deque

import msgspec

from services.local.anthropic.usage import Usage

SERVED_MAX = 50_000  # about 25 MB; `count` tells whether older entries were forgotten


class Served(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message that was answered, with the usage of the whole of it, whatever its client read of it."""

    message_id: str
    model: str
    usage: Usage | msgspec.Raw
    stop_reason: str | None = None
    batch_id: str | None = None
    custom_id: str | None = None


class Books:
    """The last messages served, oldest first."""

    def __init__(self, entries_max: int = SERVED_MAX) -> None:
        self.entries: deque[Served] = deque(maxlen=entries_max)
        self.count = 0

    def add(self, entry: Served) -> None:
        """Enter a message, at the price of the oldest one when full."""
        self.entries.append(entry)
        self.count += 1
