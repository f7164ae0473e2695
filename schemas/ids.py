"""Mints and derives the identifiers that events carry; an id is fixed before the world can answer."""

import os
import time
import uuid
from datetime import UTC, datetime
from typing import NewType

RequestId = NewType("RequestId", str)
"""A UUIDv7 minted when an exchange begins; for a batch item the UUIDv5 of (batch_id, custom_id)."""

EdgeId = NewType("EdgeId", str)
"""A UUIDv7, new with every edge process."""

VirtualKeyId = NewType("VirtualKeyId", str)
"""Whom an exchange is booked to: `vk_...`, `master`, `anonymous`, or `own:` and a keyed hash prefix."""

SourceId = NewType("SourceId", str)
"""The lasting id of a spool; for batch items the batch's id."""

RatedId = NewType("RatedId", str)
"""One usage at one price book: the UUIDv5 of (usage id, book_seq)."""

# Derived ids must come out the same in every release: never change this value.
NAMESPACE = uuid.UUID("6f1c2a0e-6d0a-5a53-9c8e-4f2b7d1e9a40")


def new_request_id(unix_ms: int) -> RequestId:
    """Mint a UUIDv7 (RFC 9562, section 5.7) that carries `unix_ms`, milliseconds since the epoch."""
    return RequestId(_uuid7(unix_ms))


def new_edge_id() -> EdgeId:
    """Mint the id of an edge process that starts now."""
    return EdgeId(_uuid7(time.time_ns() // 1_000_000))


def new_source_id() -> SourceId:
    """Mint the lasting id of a spool."""
    return SourceId(_uuid7(time.time_ns() // 1_000_000))


def batch_item_id(batch_id: str, custom_id: str) -> RequestId:
    """Derive the usage id of one item of a message batch, the same however often it is read."""
    return RequestId(str(uuid.uuid5(NAMESPACE, f"batch_item\n{batch_id}\n{custom_id}")))


def rated_id(request_id: RequestId, book_seq: int) -> RatedId:
    """Derive the id of a usage priced at the book with number `book_seq`."""
    return RatedId(str(uuid.uuid5(NAMESPACE, f"rated\n{request_id}\n{book_seq}")))


def time_of(request_id: RequestId) -> datetime:
    """Read the time of minting, to the millisecond, out of a UUIDv7; ValueError for any other id."""
    parsed = uuid.UUID(request_id)
    if parsed.version != 7:
        raise ValueError(f"{request_id} is not a UUIDv7")
    return datetime.fromtimestamp((parsed.int >> 80) / 1000, UTC)


def _uuid7(unix_ms: int) -> str:
    random_bits = int.from_bytes(os.urandom(10), "big")
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | random_bits
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
