# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The record codecs below are compiled and only partly typed; this module is their one typed face.
"""Reads and rewrites the headers of v2 record batches; never touches a record unless it must."""

import struct
from collections.abc import Callable, Iterator
from typing import NewType, cast

import msgspec
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

ProducerId = NewType("ProducerId", int)

# base offset, length, leader epoch, magic, crc, attributes, last offset delta, first and max timestamp,
# producer id and epoch, base sequence, record count
_HEADER = struct.Struct(">qiibIhiqqqhii")
_OFFSET_AND_EPOCH = struct.Struct(">qi")
_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">i")
_ATTRIBUTES_TO_MAX_TIMESTAMP = struct.Struct(">hiqq")

HEADER_BYTES = _HEADER.size
LENGTH_PREFIX_BYTES = 12  # base offset and length, which the length itself does not count
MAGIC = 2
CODEC_MASK = 0x07
CODEC_NAMES = ("uncompressed", "gzip", "snappy", "lz4", "zstd")
UNCOMPRESSED = 0
LOG_APPEND_TIME_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20
NO_PRODUCER = ProducerId(-1)
SEQUENCE_MASK = 0x7FFFFFFF  # sequences wrap to 0 after 2^31 - 1
BATCH_BYTES_MAX = 2**31 - 1 - 2**20  # the length field is an int32

# The compiled checksum takes any buffer; its annotation names only bytes.
_checksum = cast("Callable[[memoryview], int]", calc_crc32c)
_CRC_POSITION = 17
_ATTRIBUTES_POSITION = 21
_LEADER_EPOCH = 0


class BatchCorrupt(Exception):
    """The bytes are not one whole, unharmed v2 batch: refuse them, or cut the log before them."""


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    """The fixed head of a batch, with what follows from it."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    first_timestamp: int
    max_timestamp: int
    producer_id: ProducerId
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def last_offset(self) -> int:
        """The offset of the batch's last record."""
        return self.base_offset + self.last_offset_delta

    @property
    def last_sequence(self) -> int:
        """The producer's sequence number of the last record."""
        return (self.base_sequence + self.last_offset_delta) & SEQUENCE_MASK

    @property
    def size_bytes(self) -> int:
        """The whole batch, its length prefix included."""
        return self.length + LENGTH_PREFIX_BYTES

    @property
    def codec(self) -> int:
        """How the records are compressed: an index of CODEC_NAMES."""
        return self.attributes & CODEC_MASK

    @property
    def is_log_append_time(self) -> bool:
        """Whether every record's time is the batch's max timestamp."""
        return bool(self.attributes & LOG_APPEND_TIME_BIT)

    @property
    def is_transactional(self) -> bool:
        """Whether the batch belongs to a transaction."""
        return bool(self.attributes & TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        """Whether the batch is a transaction's end marker."""
        return bool(self.attributes & CONTROL_BIT)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One record, as much of it as compaction and time lookups need."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def header_at(data: bytes | bytearray | memoryview, position: int = 0) -> BatchHeader:
    """Read the header at `position`; raise BatchCorrupt when it cannot be one."""
    if len(data) - position < HEADER_BYTES:
        raise BatchCorrupt("shorter than a batch header")
    fields = _HEADER.unpack_from(data, position)
    header = BatchHeader(*fields)
    if header.magic != MAGIC:
        raise BatchCorrupt(f"magic {header.magic}")
    if header.size_bytes < HEADER_BYTES or header.last_offset_delta < 0 or header.record_count < 0:
        raise BatchCorrupt("impossible lengths")
    return header


def bounds_at(data: bytes | memoryview, position: int) -> tuple[int, int, int]:
    """Give (last offset, size, max timestamp) of a batch that the log already checked: the fast path."""
    fields = _HEADER.unpack_from(data, position)
    return fields[0] + fields[6], fields[1] + LENGTH_PREFIX_BYTES, fields[8]


def is_whole(data: bytes | bytearray | memoryview, header: BatchHeader, position: int = 0) -> bool:
    """Whether all bytes of the batch at `position` are there and match its checksum."""
    end = position + header.size_bytes
    return (
        end <= len(data) and _checksum(memoryview(data)[position + _ATTRIBUTES_POSITION : end]) == header.crc
    )


def placed_at(data: bytes, offset: int) -> bytearray:
    """Copy a batch with its offset assigned; the checksum does not cover the fields that change."""
    batch = bytearray(data)
    placed: tuple[int, int] = (offset, len(batch) - LENGTH_PREFIX_BYTES)
    _OFFSET_AND_EPOCH.pack_into(batch, 0, *placed)
    _LENGTH.pack_into(batch, LENGTH_PREFIX_BYTES, _LEADER_EPOCH)
    return batch


def stamp_append_time(batch: bytearray, now_ms: int) -> None:
    """Make the broker's clock the time of every record, as `message.timestamp.type=LogAppendTime` asks."""
    attributes, delta, first, _ = _ATTRIBUTES_TO_MAX_TIMESTAMP.unpack_from(batch, _ATTRIBUTES_POSITION)
    fields: tuple[int, int, int, int] = (attributes | LOG_APPEND_TIME_BIT, delta, first, now_ms)
    _ATTRIBUTES_TO_MAX_TIMESTAMP.pack_into(batch, _ATTRIBUTES_POSITION, *fields)
    _seal(batch)


def records_of(batch: bytes | bytearray) -> Iterator[Record]:
    """Decode the records of one whole batch; raise BatchCorrupt when they are not what the header says."""
    try:
        for record in DefaultRecordBatch(bytes(batch)):
            yield Record(
                offset=record.offset,
                timestamp_ms=record.timestamp,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
            )
    except Exception as exc:  # codecs and parsers of four compression libraries, each with errors of its own
        raise BatchCorrupt(f"records cannot be decoded: {type(exc).__name__}") from exc


def rebuilt(header: BatchHeader, records: list[Record], codec: int) -> bytearray:
    """Write `records` (a subset of the batch's own) anew under the same offsets, producer and sequences."""
    builder = DefaultRecordBatchBuilder(
        MAGIC,
        codec,
        int(header.is_transactional),
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        BATCH_BYTES_MAX,
    )
    for record in records:
        delta = record.offset - header.base_offset
        builder.append(delta, record.timestamp_ms, record.key, record.value, record.headers)
    batch = placed_at(bytes(builder.build()), header.base_offset)
    attributes, _, first, latest = _ATTRIBUTES_TO_MAX_TIMESTAMP.unpack_from(batch, _ATTRIBUTES_POSITION)
    if header.is_log_append_time:
        attributes, latest = attributes | LOG_APPEND_TIME_BIT, header.max_timestamp
    if not records:
        first, latest = header.first_timestamp, header.max_timestamp
    fields: tuple[int, int, int, int] = (attributes, header.last_offset_delta, first, latest)
    _ATTRIBUTES_TO_MAX_TIMESTAMP.pack_into(batch, _ATTRIBUTES_POSITION, *fields)
    _seal(batch)
    return batch


def control_batch(producer_id: ProducerId, producer_epoch: int, committed: bool, now_ms: int) -> bytes:
    """Write the marker that ends a producer's transaction in one partition."""
    builder = DefaultRecordBatchBuilder(MAGIC, 0, 1, producer_id, producer_epoch, -1, 1024)
    builder.append(0, now_ms, struct.pack(">hh", 0, int(committed)), struct.pack(">hi", 0, 0), [])
    batch = bytearray(builder.build())
    (attributes,) = struct.unpack_from(">h", batch, _ATTRIBUTES_POSITION)
    struct.pack_into(">h", batch, _ATTRIBUTES_POSITION, attributes | CONTROL_BIT)
    _seal(batch)
    return bytes(batch)


def commits(batch: bytes | bytearray) -> bool:
    """Whether a control batch says that the transaction committed."""
    for record in records_of(batch):
        key = record.key or b""
        return len(key) >= 4 and struct.unpack_from(">h", key, 2)[0] == 1
    return False


def every_key_present(batch: bytes) -> bool:
    """Whether every record has a key, as compacted topics demand."""
    return all(record.key is not None for record in records_of(batch))


def _seal(batch: bytearray) -> None:
    _CRC.pack_into(batch, _CRC_POSITION, _checksum(memoryview(batch)[_ATTRIBUTES_POSITION:]))
