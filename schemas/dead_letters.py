"""A record that a consumer could not use, kept with its bytes and place; published on <topic>.dlq."""

from datetime import datetime

import msgspec

REDRIVE = "redrive"
"""The stage of a letter that says of a position that what lay there was sent back to its topic."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """The original record and why it was set aside; `key` and `value` are its bytes, base64 in JSON.

    A letter of the stage `redrive` holds no value: it says that the record before it went back to its topic.
    """

    topic: str
    partition: int
    offset: int
    stage: str
    error_class: str
    error: str
    dead_at: datetime
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
