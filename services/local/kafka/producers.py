"""Remembers what each producer wrote last to a partition and which transactions are open; holds no I/O."""

from collections import OrderedDict, deque

import msgspec

from services.local.kafka.batch import NO_PRODUCER, SEQUENCE_MASK, BatchHeader, ProducerId
from services.local.kafka.errors import ErrorCode, Refused

RECENT_BATCHES = 5  # a client may have five requests in flight; an older repeat is an error, as in Kafka
PRODUCERS_MAX = (
    5_000  # per partition; the longest silent is forgotten first, then any first sequence is right
)
_NO_SEQUENCE = -1


class WrittenBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that a producer wrote, as it was acknowledged."""

    base_sequence: int
    last_sequence: int
    base_offset: int
    max_timestamp_ms: int


class AbortedTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """The span of an aborted transaction in this partition, for readers of committed records."""

    producer_id: ProducerId
    first_offset: int
    marker_offset: int


class _Producer:
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.last_sequence = _NO_SEQUENCE
        self.recent: deque[WrittenBatch] = deque(maxlen=RECENT_BATCHES)


class ProducerStates:
    """What idempotence and transactions need to know about one partition."""

    def __init__(self, producers_max: int = PRODUCERS_MAX) -> None:
        self._producers: OrderedDict[ProducerId, _Producer] = OrderedDict()
        self._producers_max = producers_max
        self._open: dict[ProducerId, int] = {}
        self._aborted: list[AbortedTransaction] = []

    def check(self, header: BatchHeader) -> WrittenBatch | None:
        """Give the batch that `header` repeats, None for news; refuse what is out of order or fenced."""
        producer = self._producers.get(header.producer_id)
        if header.producer_id == NO_PRODUCER or producer is None:
            return None
        if header.producer_epoch < producer.epoch:
            raise Refused(ErrorCode.INVALID_PRODUCER_EPOCH)
        if header.producer_epoch == producer.epoch:
            for written in producer.recent:
                if (written.base_sequence, written.last_sequence) == (
                    header.base_sequence,
                    header.last_sequence,
                ):
                    return written
        expected = 0
        if header.producer_epoch == producer.epoch and producer.last_sequence != _NO_SEQUENCE:
            expected = (producer.last_sequence + 1) & SEQUENCE_MASK
        if header.base_sequence != expected:
            raise Refused(ErrorCode.OUT_OF_ORDER_SEQUENCE, f"expected sequence {expected}")
        return None

    def record(self, header: BatchHeader) -> None:
        """Take note of a batch that the log now holds."""
        if header.producer_id == NO_PRODUCER or header.is_control:
            return
        producer = self._at_epoch(header)
        producer.last_sequence = header.last_sequence
        producer.recent.append(
            WrittenBatch(
                base_sequence=header.base_sequence,
                last_sequence=header.last_sequence,
                base_offset=header.base_offset,
                max_timestamp_ms=header.max_timestamp,
            )
        )
        if header.is_transactional:
            self._open.setdefault(header.producer_id, header.base_offset)

    def record_marker(self, header: BatchHeader, committed: bool) -> None:
        """Take note of a transaction's end marker that the log now holds."""
        self._at_epoch(header)
        first_offset = self._open.pop(header.producer_id, None)
        if first_offset is not None and not committed:
            self._aborted.append(
                AbortedTransaction(
                    producer_id=header.producer_id,
                    first_offset=first_offset,
                    marker_offset=header.base_offset,
                )
            )

    def open_transactions(self) -> dict[ProducerId, int]:
        """Give the first offset of each transaction that is still open here."""
        return dict(self._open)

    def last_batches(self) -> frozenset[int]:
        """Give the first offset of each producer's last batch."""
        return frozenset(
            producer.recent[-1].base_offset for producer in self._producers.values() if producer.recent
        )

    def epoch_of(self, producer_id: ProducerId) -> int:
        """Give the last epoch seen of a producer, 0 for an unknown one."""
        producer = self._producers.get(producer_id)
        return producer.epoch if producer else 0

    def stable_offset(self, end_offset: int) -> int:
        """Give the offset before which every transaction has ended."""
        return min(self._open.values(), default=end_offset)

    def aborted_between(self, offset: int, upper_offset: int) -> list[AbortedTransaction]:
        """Give the aborted transactions that overlap a range of offsets."""
        return [
            aborted
            for aborted in self._aborted
            if aborted.marker_offset >= offset and aborted.first_offset < upper_offset
        ]

    def forget_before(self, start_offset: int) -> None:
        """Drop aborted transactions whose every record is gone."""
        self._aborted = [aborted for aborted in self._aborted if aborted.marker_offset >= start_offset]

    def _at_epoch(self, header: BatchHeader) -> _Producer:
        producer = self._producers.get(header.producer_id)
        if producer is None or producer.epoch != header.producer_epoch:
            producer = self._producers[header.producer_id] = _Producer(header.producer_epoch)
        self._producers.move_to_end(header.producer_id)
        if len(self._producers) > self._producers_max:
            self._forget_one()
        return producer

    def _forget_one(self) -> None:
        for producer_id in self._producers:
            if producer_id not in self._open:
                del self._producers[producer_id]
                return
