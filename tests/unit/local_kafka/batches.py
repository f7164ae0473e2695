"""Builds record batches as producers send them."""

import struct

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from services.local.kafka.batch import header_at, records_of

NOW_MS = 1_700_000_000_000


def batch(
    *values: bytes | None,
    keys: list[bytes | None] | None = None,
    timestamps_ms: list[int] | None = None,
    producer: tuple[int, int, int] = (-1, -1, -1),
    codec: int = 0,
    transactional: bool = False,
) -> bytes:
    """Build one batch; `producer` is (id, epoch, base sequence)."""
    builder = DefaultRecordBatchBuilder(2, codec, int(transactional), *producer, 1 << 26)
    for number, value in enumerate(values):
        timestamp_ms = timestamps_ms[number] if timestamps_ms else NOW_MS + number
        builder.append(number, timestamp_ms, keys[number] if keys else None, value, [])
    return bytes(builder.build())


def offsets_and_values(data: bytes) -> list[tuple[int, bytes | None]]:
    """Read (offset, value) of every record in a run of batches."""
    found: list[tuple[int, bytes | None]] = []
    position = 0
    while position < len(data):
        (length,) = struct.unpack_from(">i", data, position + 8)
        found += [(item.offset, item.value) for item in records_of(data[position : position + length + 12])]
        position += length + 12
    return found


def end_offset(data: bytes) -> int:
    """Read the offset behind a run of batches, the last of which may be empty."""
    position, end = 0, 0
    while position < len(data):
        header = header_at(data, position)
        position += header.size_bytes
        end = header.last_offset + 1
    return end
