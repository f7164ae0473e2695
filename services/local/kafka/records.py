"""Answers the requests that write, read and locate records; never awaits."""

from collections.abc import Callable

import msgspec
import structlog

from services.local.kafka.batch import BatchCorrupt, BatchHeader, header_at
from services.local.kafka.errors import ErrorCode, Refused
from services.local.kafka.log import Appended, PartitionLog, TimedOffset
from services.local.kafka.messages import (
    AbortedSpan,
    FetchRequest,
    FetchResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    PartitionFetch,
    PartitionFetched,
    PartitionOffset,
    PartitionProduced,
    PartitionRecords,
    PartitionTime,
    ProduceRequest,
    ProduceResponse,
    TopicFetched,
    TopicOffsets,
    TopicProduced,
)
from services.local.kafka.topics import Topics
from services.local.kafka.transactions import Transactions

FETCH_BYTES_MAX = 8 * 1024**2  # of one answer, but for a batch that is larger; it waits in memory to be read
READ_COMMITTED = 1
_ACKS_ALL = -1
_LATEST = -1
_EARLIEST = -2

_log = structlog.get_logger()


class FetchOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a fetch found; `is_final` says that waiting longer is not asked for or would not help."""

    response: FetchResponse
    is_final: bool
    logs: list[PartitionLog]


def produce(
    topics: Topics, transactions: Transactions, request: ProduceRequest, now_ms: int
) -> ProduceResponse:
    """Append every batch of the request, in its order."""

    def appended(topic: str, item: PartitionRecords) -> PartitionProduced:
        try:
            log = topics.log(topic, item.partition)
            _check_acks(request.required_acks)
            data = item.messages or b""
            header = _header(data)
            if header.is_transactional and not header.is_control:
                transactions.check_produce(header, (topic, item.partition))
            return _produced(item.partition, log, log.append(data, now_ms))
        except Refused as refusal:
            return PartitionProduced(
                partition=item.partition, error_code=refusal.code, error_message=refusal.reason
            )
        except OSError as exc:
            _log.error("log.write_failed", topic=topic, partition=item.partition, error=str(exc))
            return PartitionProduced(partition=item.partition, error_code=ErrorCode.KAFKA_STORAGE_ERROR)

    return ProduceResponse(
        topics=[
            TopicProduced(
                topic=item.topic, partitions=[appended(item.topic, part) for part in item.partitions]
            )
            for item in request.topics
        ]
    )


def fetch(topics: Topics, request: FetchRequest, bytes_max: int = FETCH_BYTES_MAX) -> FetchOutcome:
    """Read what there is now, at most one batch beyond `bytes_max`."""
    if request.session_id:
        refusal = FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND, topics=[])
        return FetchOutcome(response=refusal, is_final=True, logs=[])
    reader = _Reader(topics, request, bytes_max)
    response = FetchResponse(
        topics=[
            TopicFetched(
                topic=item.topic, partitions=[reader.read(item.topic, part) for part in item.partitions]
            )
            for item in request.topics
        ]
    )
    is_enough = reader.bytes_read >= min(request.min_bytes, max(bytes_max, 1))
    is_final = reader.failed or is_enough or request.max_wait_time <= 0
    return FetchOutcome(response=response, is_final=is_final, logs=reader.logs)


def list_offsets(topics: Topics, request: ListOffsetsRequest) -> ListOffsetsResponse:
    """Turn times into offsets."""
    committed_only = request.isolation_level == READ_COMMITTED
    find = _stable_offset if committed_only else _any_offset
    return ListOffsetsResponse(
        topics=[
            TopicOffsets(
                topic=item.topic,
                partitions=[_located(topics, item.topic, part, find) for part in item.partitions],
            )
            for item in request.topics
        ]
    )


class _Reader:
    """Reads partition after partition until the request's bytes are used up."""

    def __init__(self, topics: Topics, request: FetchRequest, bytes_max: int) -> None:
        self._topics = topics
        self._committed_only = request.isolation_level == READ_COMMITTED
        self._bytes_max = min(max(request.max_bytes, 0), bytes_max)
        self.bytes_read = 0
        self.failed = False
        self.logs: list[PartitionLog] = []

    def read(self, topic: str, item: PartitionFetch) -> PartitionFetched:
        try:
            log = self._topics.log(topic, item.partition)
        except Refused as refusal:
            self.failed = True
            return PartitionFetched(partition=item.partition, error_code=refusal.code)
        self.logs.append(log)
        if not log.start_offset <= item.offset <= log.end_offset:
            self.failed = True
            return PartitionFetched(
                partition=item.partition,
                error_code=ErrorCode.OFFSET_OUT_OF_RANGE,
                highwater_offset=log.end_offset,
                last_stable_offset=log.stable_offset,
                log_start_offset=log.start_offset,
            )
        return self._read_log(log, item)

    def _read_log(self, log: PartitionLog, item: PartitionFetch) -> PartitionFetched:
        stable_offset = log.stable_offset
        upper_offset = stable_offset if self._committed_only else log.end_offset
        room_bytes = min(item.max_bytes, self._bytes_max - self.bytes_read)
        # The first partition with anything to give gives at least one batch, whatever the limits say.
        may_read = room_bytes > 0 or not self.bytes_read
        data = log.read(item.offset, upper_offset, max(room_bytes, 0)) if may_read else b""
        if self.bytes_read and len(data) > room_bytes:
            data = b""
        self.bytes_read += len(data)
        aborted: list[AbortedSpan] | None = None
        if self._committed_only:
            aborted = [
                AbortedSpan(producer_id=span.producer_id, first_offset=span.first_offset)
                for span in log.aborted_between(item.offset, upper_offset)
            ]
        return PartitionFetched(
            partition=item.partition,
            highwater_offset=log.end_offset,
            last_stable_offset=stable_offset,
            log_start_offset=log.start_offset,
            aborted_transactions=aborted,
            message_set=data,
        )


def _header(data: bytes) -> BatchHeader:
    try:
        return header_at(data)
    except BatchCorrupt as exc:
        raise Refused(ErrorCode.CORRUPT_MESSAGE, str(exc)) from exc


def _check_acks(required_acks: int) -> None:
    if required_acks not in (_ACKS_ALL, 0, 1):
        raise Refused(ErrorCode.INVALID_REQUIRED_ACKS)


def _produced(partition: int, log: PartitionLog, appended: Appended) -> PartitionProduced:
    return PartitionProduced(
        partition=partition,
        error_code=ErrorCode.NONE,
        offset=appended.base_offset,
        timestamp=appended.append_time_ms,
        log_start_offset=log.start_offset,
    )


def _any_offset(log: PartitionLog) -> int:
    return log.end_offset


def _stable_offset(log: PartitionLog) -> int:
    return log.stable_offset


def _located(
    topics: Topics, topic: str, item: PartitionTime, latest: Callable[[PartitionLog], int]
) -> PartitionOffset:
    try:
        log = topics.log(topic, item.partition)
    except Refused as refusal:
        return PartitionOffset(partition=item.partition, error_code=refusal.code)
    if item.timestamp == _LATEST:
        return PartitionOffset(partition=item.partition, offset=latest(log))
    if item.timestamp == _EARLIEST:
        return PartitionOffset(partition=item.partition, offset=log.start_offset)
    found: TimedOffset | None = log.offset_at_time(item.timestamp)
    if found is None or found.offset >= latest(log):
        return PartitionOffset(partition=item.partition)
    return PartitionOffset(partition=item.partition, offset=found.offset, timestamp=found.timestamp_ms)
