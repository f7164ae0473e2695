"""A broker that is written to, read, trimmed and killed in any order, beside a model of what it must hold.

A kill is told by reopening the directory without closing anything, behind whatever a write that nobody
acknowledged may have left there: everything acknowledged was in the page cache, which outlives the process.
Hypothesis prints the steps of a failure, and with them the way to repeat it.
"""

import os
import random
import shutil
import tempfile
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.local.kafka.admin_messages import (
    ConfigEntry,
    CreateTopicsRequest,
    DeleteRecordsRequest,
    NewTopic,
    PartitionTrim,
    TopicTrims,
)
from services.local.kafka.batch import header_at, is_whole, records_of
from services.local.kafka.broker import Broker, BrokerSettings
from services.local.kafka.coordination_messages import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
    PartitionCommit,
    TopicCommits,
    TopicPartitions,
    TxnOffsetCommitRequest,
)
from services.local.kafka.messages import (
    FetchRequest,
    PartitionFetch,
    PartitionRecords,
    ProduceRequest,
    TopicFetch,
    TopicRecords,
)
from services.local.kafka.records import fetch
from tests.unit.local_kafka.batches import NOW_MS, batch

TOPIC, GROUP, NAME = "t", "g", "tx"
PARTITIONS = 2
RECENT_BATCHES = 5

partitions = st.integers(0, PARTITIONS - 1)
counts = st.integers(1, 4)
chances = st.integers(0, 2**32)


class Cell(msgspec.Struct):
    """What the model knows of one offset: a record, or the end of a transaction."""

    value: bytes | None
    transaction: int | None = None


class Producer:
    """An idempotent producer's identity, and what it sent last to each partition."""

    def __init__(self, producer_id, epoch):
        self.producer_id = producer_id
        self.epoch = epoch
        self.sequences = dict.fromkeys(range(PARTITIONS), 0)
        self.sent = {number: [] for number in range(PARTITIONS)}


class Walk(RuleBasedStateMachine):
    """Each rule is one request, or a kill; the invariant reads everything."""

    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="kafka-walk-"))
        self.clock_ms = NOW_MS
        self.broker = None
        self.cells = {number: [] for number in range(PARTITIONS)}
        self.starts = dict.fromkeys(range(PARTITIONS), 0)
        self.positions = {}
        self.values = 0
        self.ended = {}
        self.open_transaction = None
        self.pending_positions = {}
        self.touched = set()

    def teardown(self):
        if self.broker is not None:
            self.broker.close()
        shutil.rmtree(self.directory)

    @initialize()
    def open(self):
        self._reopen()
        # A step of the clock closes the segment, so that the walk crosses their borders.
        topic = NewTopic(
            topic=TOPIC,
            num_partitions=PARTITIONS,
            replication_factor=1,
            replica_assignment=[],
            configs=[ConfigEntry(name="segment.ms", value="1")],
        )
        reply = self.broker.answer(CreateTopicsRequest(create_topic_requests=[topic], validate_only=False))
        assert [error.error_code for error in reply.topic_errors] == [0]
        self.idempotent = self._introduced(None)
        self.transactional = self._introduced(NAME)

    # ---- what clients do

    @rule(partition=partitions, count=counts)
    def produce(self, partition, count):
        values = self._new_values(count)
        self._take_note(partition, self._sent(partition, self._batch(values)), values, None)

    @rule()
    def let_time_pass(self):
        self.clock_ms += 10

    @rule(partition=partitions, count=counts)
    def produce_idempotently(self, partition, count):
        self._produce_as(self.idempotent, partition, self._new_values(count))

    @rule(partition=partitions, chance=chances)
    def repeat_a_recent_batch(self, partition, chance):
        recent = self.idempotent.sent[partition][-RECENT_BATCHES:]
        if recent:
            data, offset = random.Random(chance).choice(recent)
            assert self._sent(partition, data) == (0, offset)

    @rule(partition=partitions, chance=chances)
    def send_damaged_bytes(self, partition, chance):
        data = bytearray(batch(b"never"))
        data[random.Random(chance).randrange(17, len(data))] ^= 0xFF
        error, offset = self._sent(partition, bytes(data))
        assert (error != 0, offset) == (True, -1)

    @rule(partition=partitions, count=counts)
    def produce_in_a_transaction(self, partition, count):
        if self.open_transaction is None:
            self.open_transaction = len(self.ended)
        reply = self.broker.answer(
            AddPartitionsToTxnRequest(
                **self._identity(), topics=[TopicPartitions(topic=TOPIC, partitions=[partition])]
            )
        )
        assert [item.error_code for error in reply.errors for item in error.partition_errors] == [0]
        self.touched.add(partition)
        self._produce_as(self.transactional, partition, self._new_values(count), self.open_transaction)

    @rule(partition=partitions, offset=st.integers(0, 50))
    def commit_a_position_in_the_transaction(self, partition, offset):
        if self.open_transaction is None:
            self.open_transaction = len(self.ended)
        assert self.broker.answer(AddOffsetsToTxnRequest(**self._identity(), group=GROUP)).error_code == 0
        self.broker.answer(
            TxnOffsetCommitRequest(**self._identity(), group=GROUP, topics=_commits(partition, offset))
        )
        self.pending_positions[partition] = offset

    @precondition(lambda self: self.open_transaction is not None)
    @rule(commits=st.booleans())
    def end_the_transaction(self, commits):
        reply = self.broker.answer(EndTxnRequest(**self._identity(), transaction_result=commits))
        assert reply.error_code == 0
        if commits:
            self.positions.update(self.pending_positions)
        self._transaction_ended(commits)

    @rule(partition=partitions, offset=st.integers(0, 50))
    def commit_a_position(self, partition, offset):
        request = OffsetCommitRequest(
            group=GROUP, generation_id=-1, member_id="", topics=_commits(partition, offset)
        )
        reply = self.broker.answer(request)
        assert [item.error_code for topic in reply.topics for item in topic.partitions] == [0]
        self.positions[partition] = offset

    @rule(partition=partitions, share=st.floats(0, 1))
    def delete_records(self, partition, share):
        end = self.broker.topics.log(TOPIC, partition).stable_offset
        offset = self.starts[partition] + int(share * max(end - self.starts[partition], 0))
        trim = TopicTrims(topic=TOPIC, partitions=[PartitionTrim(partition=partition, offset=offset)])
        (topic,) = self.broker.answer(DeleteRecordsRequest(topics=[trim])).topics
        assert [(item.error_code, item.low_watermark) for item in topic.partitions] == [(0, offset)]
        self.starts[partition] = offset

    @rule(partition=partitions, share=st.floats(0, 1), bytes_max=st.integers(0, 3_000))
    def fetch_from_anywhere(self, partition, share, bytes_max):
        end, start = len(self.cells[partition]), self.starts[partition]
        offset = start + int(share * (end - start))
        found = self._fetched(partition, offset, bytes_max)
        if offset == end:
            assert found == []
        else:
            assert found[0][0] <= offset <= found[-1][0]
        assert self._fetch(partition, start - 1, 1).error_code == 1
        assert self._fetch(partition, end + 1, 1).error_code == 1

    @rule(chance=chances)
    def kill(self, chance):
        random_bytes = random.Random(chance)
        for path in sorted(self.directory.rglob("*.log"))[-1:]:
            with path.open("ab") as file:
                torn = batch(b"never acknowledged" * 5)
                file.write(torn[: random_bytes.randrange(len(torn))])
        for path in self.directory.glob("*.journal"):
            with path.open("ab") as file:
                file.write(b'["torn",{"group":"g'[: random_bytes.randrange(20)])
        self._reopen()
        if self.open_transaction is not None:
            self._transaction_ended(commits=False)
        self.transactional = self._introduced(NAME)
        for partition, sent in self.idempotent.sent.items():
            # What was deleted may be forgotten: a repeat of it would be news.
            sent[:] = [(data, offset) for data, offset in sent if offset >= self.starts[partition]]

    # ---- what must hold

    @invariant()
    def everything_acknowledged_is_there_once_and_in_order(self):
        if self.broker is None:
            return
        for partition, cells in self.cells.items():
            start = self.starts[partition]
            found = [item for item in self._read(partition, start) if item[0] >= start]
            assert [offset for offset, _ in found] == list(range(start, len(cells)))
            assert [value for _, value in found if value is not None] == [
                cell.value for cell in cells[start:] if cell.value is not None
            ]

    @invariant()
    def readers_of_committed_records_see_those(self):
        if self.broker is None:
            return
        for partition, cells in self.cells.items():
            log = self.broker.topics.log(TOPIC, partition)
            open_offsets = [
                offset
                for offset, cell in enumerate(cells)
                if cell.transaction is not None and cell.transaction not in self.ended
            ]
            assert log.stable_offset == min(open_offsets, default=len(cells))
            aborted = log.aborted_between(self.starts[partition], len(cells))
            assert all(
                any(span.first_offset <= offset < span.marker_offset for span in aborted)
                for offset, cell in enumerate(cells)
                if offset >= self.starts[partition]
                and cell.value is not None
                and self.ended.get(cell.transaction) is False
            )

    @invariant()
    def positions_are_those_committed_last(self):
        if self.broker is None:
            return
        (topic,) = self.broker.answer(
            OffsetFetchRequest(
                group=GROUP, topics=[TopicPartitions(topic=TOPIC, partitions=list(range(PARTITIONS)))]
            )
        ).topics
        assert {item.partition: item.offset for item in topic.partitions if item.offset >= 0} == (
            self.positions
        )

    # ---- how

    def _reopen(self):
        if self.broker is not None:
            # The process is gone: its lock is free, and nothing was closed, flushed or ended in order.
            os.close(self.broker._lock)
            self.broker.topics._files.close()
        self.broker = Broker(BrokerSettings(data_dir=self.directory))

    def _introduced(self, name):
        reply = self.broker.answer(
            InitProducerIdRequest(transactional_id=name, transaction_timeout_ms=60_000)
        )
        assert reply.error_code == 0
        return Producer(reply.producer_id, reply.producer_epoch)

    def _identity(self):
        return {
            "transactional_id": NAME,
            "producer_id": self.transactional.producer_id,
            "producer_epoch": self.transactional.epoch,
        }

    def _new_values(self, count):
        self.values += count
        return [b"%d" % (self.values - index) for index in range(count)]

    def _batch(self, values, **options):
        return batch(*values, timestamps_ms=[self.clock_ms] * len(values), **options)

    def _produce_as(self, producer, partition, values, transaction=None):
        sequence = producer.sequences[partition]
        data = self._batch(
            values,
            producer=(producer.producer_id, producer.epoch, sequence),
            transactional=transaction is not None,
        )
        error, offset = self._sent(partition, data)
        producer.sequences[partition] += len(values)
        producer.sent[partition].append((data, offset))
        self._take_note(partition, (error, offset), values, transaction)

    def _sent(self, partition, data):
        records = TopicRecords(topic=TOPIC, partitions=[PartitionRecords(partition=partition, messages=data)])
        (topic,) = self.broker.answer(ProduceRequest(required_acks=-1, topics=[records])).topics
        (produced,) = topic.partitions
        return produced.error_code, produced.offset

    def _take_note(self, partition, answer, values, transaction):
        assert answer == (0, len(self.cells[partition]))
        self.cells[partition] += [Cell(value=value, transaction=transaction) for value in values]

    def _transaction_ended(self, commits):
        self.ended[self.open_transaction] = commits
        for partition in self.touched:
            self.cells[partition].append(Cell(value=None))
        self.open_transaction = None
        self.touched = set()
        self.pending_positions = {}

    def _fetch(self, partition, offset, bytes_max):
        place = PartitionFetch(partition=partition, offset=offset, max_bytes=bytes_max)
        request = FetchRequest(
            max_wait_time=0,
            min_bytes=0,
            max_bytes=bytes_max,
            topics=[TopicFetch(topic=TOPIC, partitions=[place])],
        )
        (topic,) = fetch(self.broker.topics, request).response.topics
        (fetched,) = topic.partitions
        return fetched

    def _fetched(self, partition, offset, bytes_max):
        """Fetch once; give (offset, value) of each record, None for the end of a transaction."""
        fetched = self._fetch(partition, offset, bytes_max)
        assert (fetched.error_code, fetched.highwater_offset) == (0, len(self.cells[partition]))
        found, position, data = [], 0, fetched.message_set
        while position < len(data):
            header = header_at(data, position)
            assert is_whole(data, header, position)
            records = records_of(data[position : position + header.size_bytes])
            found += [(record.offset, None if header.is_control else record.value) for record in records]
            position += header.size_bytes
        return found

    def _read(self, partition, offset):
        found = []
        while offset < len(self.cells[partition]):
            found += self._fetched(partition, offset, 100_000)
            offset = found[-1][0] + 1
        return found


def _commits(partition, offset):
    position = PartitionCommit(partition=partition, offset=offset, metadata="")
    return [TopicCommits(topic=TOPIC, partitions=[position])]


Walk.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, print_blob=True)
TestWalk = Walk.TestCase
