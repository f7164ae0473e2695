import msgspec
import pytest

from services.local.kafka.batch import ProducerId, header_at
from services.local.kafka.errors import ErrorCode, Refused
from services.local.kafka.journal import Journal
from services.local.kafka.offsets import CommittedOffsets, Position
from services.local.kafka.topics import TopicRecord, Topics
from services.local.kafka.transactions import (
    EPOCH_MAX,
    TransactionalProducer,
    TransactionEnding,
    Transactions,
)
from tests.unit.local_kafka.batches import NOW_MS, batch

PLACE = ("t", 0)
POSITION = Position(group="g", topic="t", partition=0, offset=7, metadata="")


class Store:
    """A broker's durable state, which can be opened again as after a crash."""

    def __init__(self, data_dir):
        self.data_dir = data_dir
        self.topics = Topics(data_dir)
        self.offsets = CommittedOffsets(data_dir / "offsets.journal")
        self.journal = Journal(data_dir / "transactions.journal", TransactionalProducer)
        self.transactions = Transactions(self.journal, self.topics, self.offsets)
        self.transactions.recover(NOW_MS)

    def reopened(self):
        return Store(self.data_dir)

    def begin(self, name="tx", timeout_ms=1_000):
        return self.transactions.begin_transactional(name, timeout_ms, NOW_MS)

    def write(self, producer, sequence, value=b"v"):
        data = batch(value, producer=(producer.producer_id, producer.epoch, sequence), transactional=True)
        self.transactions.check_produce(header_at(data), PLACE)
        return self.topics.log(*PLACE).append(data, NOW_MS)

    @property
    def log(self):
        return self.topics.log(*PLACE)


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path)
    found.topics.create("t", TopicRecord(partitions=2, configs={}))
    return found


def code_of(action):
    with pytest.raises(Refused) as caught:
        action()
    return caught.value.code


def test_a_commit_makes_records_stable_and_positions_count(store):
    producer = store.begin()
    store.transactions.add_partition(producer, "tx", PLACE, 0)
    store.transactions.add_position(producer, "tx", POSITION, 0)
    store.write(producer, 0)
    before = (store.log.stable_offset, store.offsets.of_group("g"))

    store.transactions.end(producer, "tx", True, NOW_MS)

    assert before == (0, {})
    assert (store.log.stable_offset, store.log.aborted_between(0, 9)) == (2, [])
    assert store.offsets.of_group("g") == {PLACE: POSITION}


def test_an_abort_marks_the_records_and_forgets_the_positions(store):
    producer = store.begin()
    store.transactions.add_partition(producer, "tx", PLACE, 0)
    store.transactions.add_position(producer, "tx", POSITION, 0)
    store.write(producer, 0)

    store.transactions.end(producer, "tx", False, NOW_MS)

    assert [span.first_offset for span in store.log.aborted_between(0, 9)] == [0]
    assert store.offsets.of_group("g") == {}


def test_ending_twice_the_same_way_is_harmless_and_otherwise_refused(store):
    producer = store.begin()
    store.transactions.add_partition(producer, "tx", PLACE, 0)
    store.transactions.end(producer, "tx", True, NOW_MS)

    store.transactions.end(producer, "tx", True, NOW_MS)

    assert (
        code_of(lambda: store.transactions.end(producer, "tx", False, NOW_MS)) == ErrorCode.INVALID_TXN_STATE
    )


def test_a_successor_aborts_and_fences_its_predecessor(store):
    old = store.begin()
    store.transactions.add_partition(old, "tx", PLACE, 0)
    store.write(old, 0)

    new = store.begin()

    assert (new.producer_id, new.epoch) == (old.producer_id, old.epoch + 1)
    assert len(store.log.aborted_between(0, 9)) == 1
    assert [
        code_of(lambda: store.write(old, 1)),
        code_of(lambda: store.transactions.add_partition(old, "tx", PLACE, 0)),
        code_of(lambda: store.transactions.end(old, "tx", True, NOW_MS)),
    ] == [ErrorCode.INVALID_PRODUCER_EPOCH] * 3


def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced(store):
    producer = store.begin(timeout_ms=500)
    store.transactions.add_partition(producer, "tx", PLACE, 10.0)
    store.write(producer, 0)
    assert store.transactions.next_deadline_s() == 10.5
    store.transactions.abort_overdue(10.4, NOW_MS)
    assert store.log.stable_offset == 0

    store.transactions.abort_overdue(10.5, NOW_MS)

    assert (store.log.stable_offset, store.transactions.next_deadline_s()) == (2, None)
    assert code_of(lambda: store.write(producer, 1)) == ErrorCode.INVALID_PRODUCER_EPOCH


def test_a_batch_outside_of_its_transaction_is_refused(store):
    producer = store.begin()
    other = TransactionalProducer(producer_id=ProducerId(999), epoch=0)

    assert code_of(lambda: store.write(producer, 0)) == ErrorCode.INVALID_TXN_STATE
    assert code_of(lambda: store.write(other, 0)) == ErrorCode.INVALID_PRODUCER_ID_MAPPING


def test_what_was_open_at_a_crash_is_aborted_at_the_next_start(store):
    producer = store.begin()
    store.transactions.add_partition(producer, "tx", PLACE, 0)
    store.write(producer, 0)

    again = store.reopened()

    assert (again.log.stable_offset, len(again.log.aborted_between(0, 9))) == (2, 1)


def test_what_was_decided_at_a_crash_is_carried_out_at_the_next_start(store):
    producer = store.begin()
    for place in (PLACE, ("t", 1)):
        store.transactions.add_partition(producer, "tx", place, 0)
        data = batch(b"v", producer=(producer.producer_id, producer.epoch, 0), transactional=True)
        store.topics.log(*place).append(data, NOW_MS)
    ending = TransactionEnding(committed=True, partitions=[PLACE, ("t", 1)], positions=[POSITION])
    store.journal.update({"tx": msgspec.structs.replace(producer, ending=ending)})
    store.log.end_transaction(producer.producer_id, producer.epoch, True, NOW_MS)

    again = store.reopened()

    logs = [again.topics.log("t", number) for number in (0, 1)]
    assert [(log.stable_offset, log.end_offset, log.aborted_between(0, 9)) for log in logs] == [
        (2, 2, [])
    ] * 2
    assert again.offsets.of_group("g") == {PLACE: POSITION}
    assert again.reopened().log.end_offset == 2


def test_producer_ids_are_never_given_twice_also_after_a_crash(store):
    given = [store.transactions.begin_idempotent().producer_id for _ in range(3)]
    given.append(store.begin().producer_id)
    again = store.reopened()
    given += [again.transactions.begin_idempotent().producer_id for _ in range(3)]

    assert len(set(given)) == 7
    assert again.begin() == TransactionalProducer(producer_id=given[3], epoch=1)


def test_a_producer_at_its_last_epoch_gets_a_new_id(store):
    producer = store.begin()
    store.journal.update({"tx": msgspec.structs.replace(producer, epoch=EPOCH_MAX)})

    successor = store.begin()

    assert successor.producer_id != producer.producer_id
    assert successor.epoch == 0
    store.transactions.add_partition(successor, "tx", PLACE, 0)
    assert store.write(successor, 0).base_offset == 0


@pytest.mark.parametrize("timeout_ms", [0, 15 * 60_000 + 1])
def test_impossible_timeouts_are_refused(store, timeout_ms):
    assert code_of(lambda: store.begin(timeout_ms=timeout_ms)) == ErrorCode.INVALID_TRANSACTION_TIMEOUT


def test_a_deleted_topic_does_not_keep_a_transaction_from_ending(store):
    producer = store.begin()
    store.transactions.add_partition(producer, "tx", PLACE, 0)
    store.write(producer, 0)
    store.topics.delete("t")

    store.transactions.end(producer, "tx", True, NOW_MS)

    assert store.transactions.next_deadline_s() is None
