"""Gives out producer ids and runs transactions to their end, also across a crash; never awaits."""

import msgspec
import structlog

from services.local.kafka.batch import BatchHeader, ProducerId
from services.local.kafka.errors import ErrorCode, Refused
from services.local.kafka.journal import Journal
from services.local.kafka.offsets import CommittedOffsets, Position
from services.local.kafka.topics import Topics

TRANSACTION_TIMEOUT_MS_MAX = 15 * 60_000  # Kafka's transaction.max.timeout.ms
TRANSACTIONAL_IDS_MAX = 10_000  # the idlest are forgotten first: their producers must start anew
EPOCH_MAX = 2**15 - 2  # an int16; beyond it the producer gets a new id
_ID_BLOCK = 1_000  # ids are reserved on disk in blocks, so that handing one out writes nothing
_ID_BLOCK_KEY = ""  # no transactional id is empty

_log = structlog.get_logger()


class TransactionEnding(msgspec.Struct, frozen=True, kw_only=True):
    """A decided end whose markers may not all be written yet."""

    committed: bool
    partitions: list[tuple[str, int]]
    positions: list[Position]


class TransactionalProducer(msgspec.Struct, frozen=True, kw_only=True):
    """A transactional id as it stands in the journal."""

    producer_id: ProducerId
    epoch: int = 0
    ending: TransactionEnding | None = None


class _Ongoing:
    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.partitions: set[tuple[str, int]] = set()
        self.positions: list[Position] = []


class Transactions:
    """Every transactional id of this broker."""

    def __init__(
        self, journal: Journal[TransactionalProducer], topics: Topics, offsets: CommittedOffsets
    ) -> None:
        self._journal = journal
        self._topics = topics
        self._offsets = offsets
        self._timeouts_ms: dict[str, int] = {}
        self._names: dict[ProducerId, str] = {}
        self._ongoing: dict[str, _Ongoing] = {}
        self._last_result: dict[str, bool] = {}
        for name, producer in journal.entries().items():
            if name != _ID_BLOCK_KEY:
                self._names[producer.producer_id] = name
        block = journal.get(_ID_BLOCK_KEY)
        self._next_id = block.producer_id if block else 1
        self._ids_reserved = self._next_id

    def recover(self, now_ms: int) -> None:
        """Finish what a crash interrupted: decided ends are carried out, open transactions aborted."""
        for name, producer in self._journal.entries().items():
            if producer.ending is not None:
                self._carry_out(name, producer, producer.ending, now_ms)
        for log in self._topics.logs():
            for producer_id in log.producers.open_transactions():
                log.end_transaction(producer_id, log.producers.epoch_of(producer_id), False, now_ms)

    def begin_idempotent(self) -> TransactionalProducer:
        """Give an id to a producer without transactions."""
        return TransactionalProducer(producer_id=self._new_id())

    def begin_transactional(self, name: str, timeout_ms: int, now_ms: int) -> TransactionalProducer:
        """Give a transactional producer its id, abort what its predecessor left open and fence it."""
        if not name:
            raise Refused(ErrorCode.INVALID_REQUEST, "an empty transactional id")
        if not 0 < timeout_ms <= TRANSACTION_TIMEOUT_MS_MAX:
            raise Refused(ErrorCode.INVALID_TRANSACTION_TIMEOUT)
        producer = self._journal.get(name)
        if producer is None:
            self._make_room()
            producer = TransactionalProducer(producer_id=self._new_id())
        else:
            producer = self._fenced(name, producer, now_ms)
        self._journal.update({name: producer})
        self._names[producer.producer_id] = name
        self._timeouts_ms[name] = timeout_ms
        self._last_result.pop(name, None)
        return producer

    def add_partition(
        self, identity: TransactionalProducer, name: str, place: tuple[str, int], now_s: float
    ) -> None:
        """Take a partition into the transaction."""
        self._check(identity, name)
        self._topics.log(*place)
        self._started(name, now_s).partitions.add(place)

    def add_group(self, identity: TransactionalProducer, name: str, now_s: float) -> None:
        """Take a consumer group into the transaction."""
        self._check(identity, name)
        self._started(name, now_s)

    def add_position(
        self, identity: TransactionalProducer, name: str, position: Position, now_s: float
    ) -> None:
        """Remember a position that counts if the transaction commits."""
        self._check(identity, name)
        self._started(name, now_s).positions.append(position)

    def check_produce(self, header: BatchHeader, place: tuple[str, int]) -> None:
        """Refuse a transactional batch that belongs to no open transaction of a living producer."""
        name = self._names.get(header.producer_id)
        producer = self._journal.get(name) if name else None
        if name is None or producer is None:
            raise Refused(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        if producer.epoch != header.producer_epoch:
            raise Refused(ErrorCode.INVALID_PRODUCER_EPOCH)
        ongoing = self._ongoing.get(name)
        if ongoing is None or place not in ongoing.partitions:
            raise Refused(ErrorCode.INVALID_TXN_STATE)

    def end(self, identity: TransactionalProducer, name: str, committed: bool, now_ms: int) -> None:
        """Commit or abort the transaction; repeating the same end is harmless."""
        producer = self._check(identity, name)
        if name not in self._ongoing:
            if self._last_result.get(name) is committed:
                return
            raise Refused(ErrorCode.INVALID_TXN_STATE)
        self._finish(name, producer, committed, now_ms)
        self._last_result[name] = committed

    def next_deadline_s(self) -> float | None:
        """Say when the next transaction will have taken too long."""
        return min((ongoing.deadline_s for ongoing in self._ongoing.values()), default=None)

    def abort_overdue(self, now_s: float, now_ms: int) -> None:
        """Abort the transactions that took too long and fence their producers."""
        for name, ongoing in list(self._ongoing.items()):
            producer = self._journal.get(name)
            if ongoing.deadline_s <= now_s and producer is not None:
                self._journal.update({name: self._fenced(name, producer, now_ms)})
                _log.warning("transaction.timed_out", transactional_id=name, producer_id=producer.producer_id)

    def close(self) -> None:
        """Close the file."""
        self._journal.close()

    def _check(self, identity: TransactionalProducer, name: str) -> TransactionalProducer:
        producer = self._journal.get(name) if name else None
        if producer is None or producer.producer_id != identity.producer_id:
            raise Refused(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        if producer.epoch != identity.epoch:
            raise Refused(ErrorCode.INVALID_PRODUCER_EPOCH)
        return producer

    def _started(self, name: str, now_s: float) -> _Ongoing:
        ongoing = self._ongoing.get(name)
        if ongoing is None:
            timeout_ms = self._timeouts_ms.get(name, TRANSACTION_TIMEOUT_MS_MAX)
            ongoing = self._ongoing[name] = _Ongoing(now_s + timeout_ms / 1_000)
        return ongoing

    def _fenced(self, name: str, producer: TransactionalProducer, now_ms: int) -> TransactionalProducer:
        """Raise the epoch, then abort what is open under it, so that the old producer can write no more."""
        raised = msgspec.structs.replace(producer, epoch=producer.epoch + 1, ending=None)
        if name in self._ongoing:
            self._finish(name, raised, False, now_ms)
        if raised.epoch < EPOCH_MAX:
            return raised
        del self._names[producer.producer_id]
        successor = TransactionalProducer(producer_id=self._new_id())
        self._names[successor.producer_id] = name
        return successor

    def _finish(self, name: str, producer: TransactionalProducer, committed: bool, now_ms: int) -> None:
        ongoing = self._ongoing.pop(name)
        ending = TransactionEnding(
            committed=committed,
            partitions=sorted(ongoing.partitions),
            positions=ongoing.positions if committed else [],
        )
        # On disk before the first marker: a crash in between must not commit one partition and abort another.
        self._journal.update({name: msgspec.structs.replace(producer, ending=ending)})
        self._carry_out(name, producer, ending, now_ms)

    def _carry_out(
        self, name: str, producer: TransactionalProducer, ending: TransactionEnding, now_ms: int
    ) -> None:
        for topic_name, partition in ending.partitions:
            topic = self._topics.find(topic_name)
            if topic is not None and partition < len(topic.logs):
                log = topic.logs[partition]
                log.end_transaction(producer.producer_id, producer.epoch, ending.committed, now_ms)
        self._offsets.commit(ending.positions)
        self._journal.update({name: msgspec.structs.replace(producer, ending=None)})

    def _new_id(self) -> ProducerId:
        if self._next_id >= self._ids_reserved:
            self._ids_reserved = self._next_id + _ID_BLOCK
            reserved = TransactionalProducer(producer_id=ProducerId(self._ids_reserved))
            self._journal.update({_ID_BLOCK_KEY: reserved})
        self._next_id += 1
        return ProducerId(self._next_id - 1)

    def _make_room(self) -> None:
        if len(self._names) < TRANSACTIONAL_IDS_MAX:
            return
        for producer_id, name in self._names.items():
            if name not in self._ongoing:
                del self._names[producer_id]
                self._journal.update({name: None})
                self._timeouts_ms.pop(name, None)
                self._last_result.pop(name, None)
                return
