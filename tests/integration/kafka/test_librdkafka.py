"""librdkafka, the client of most other languages, on the same broker: it shares no code with aiokafka."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import (
    OFFSET_INVALID,
    TIMESTAMP_CREATE_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

ANSWER_S_MAX = 15
COUNT = 3_000


@pytest.fixture
def admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap})


def create(admin: AdminClient, topic: str, partitions: int = 1, **configs: str) -> None:
    settings = {name.replace("_", "."): value for name, value in configs.items()}
    for done in admin.create_topics([NewTopic(topic, partitions, 1, config=settings)]).values():
        done.result(ANSWER_S_MAX)


def produce(bootstrap: str, topic: str, count: int, **options: object) -> list[int]:
    """Send numbers, and give the offsets that were acknowledged."""
    offsets: list[int] = []

    def delivered(error: KafkaError | None, message: object) -> None:
        assert error is None, error
        offsets.append(message.offset())

    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, **options})
    for number in range(count):
        producer.produce(
            topic,
            b"%d" % number * 20,
            key=b"%d" % number,
            headers=[("h", b"1"), ("none", None)],
            on_delivery=delivered,
        )
        producer.poll(0)
    assert producer.flush(ANSWER_S_MAX) == 0
    return offsets


@contextmanager
def a_consumer(bootstrap: str, group: str, *topics: str, **options: object) -> Iterator[Consumer]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 300,
            **options,
        }
    )
    try:
        if topics:
            consumer.subscribe(list(topics))
        yield consumer
    finally:
        consumer.close()


def take(consumer: Consumer, count: int) -> list:
    found, deadline = [], time.monotonic() + ANSWER_S_MAX
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} came"
        for message in consumer.consume(500, 0.2):
            assert message.error() is None, message.error()
            found.append(message)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"acks": "all"},
        {"enable.idempotence": True},
        *(
            {"enable.idempotence": True, "compression.type": codec}
            for codec in ("gzip", "snappy", "lz4", "zstd")
        ),
    ],
    ids=lambda options: str(options.get("compression.type", next(iter(options)))),
)
def test_everything_sent_is_read_once_and_committed(bootstrap, admin, topic, group, options):
    create(admin, topic, partitions=3)
    assert len(produce(bootstrap, topic, COUNT, **options)) == COUNT
    with a_consumer(bootstrap, group, topic) as consumer:
        found = take(consumer, COUNT)
        consumer.commit(asynchronous=False)
        places = [TopicPartition(topic, number) for number in range(3)]
        committed = sum(place.offset for place in consumer.committed(places, timeout=ANSWER_S_MAX))
    assert sorted(int(message.key()) for message in found) == list(range(COUNT))
    assert all(message.value() == message.key() * 20 for message in found)
    assert {tuple(message.headers()) for message in found} == {(("h", b"1"), ("none", None))}
    assert committed == COUNT


def test_transactions_commit_abort_and_fence(bootstrap, admin, topic, group, fresh):
    create(admin, topic)
    name = fresh("tx")
    first = Producer({"bootstrap.servers": bootstrap, "transactional.id": name})
    first.init_transactions(ANSWER_S_MAX)
    for value, end in ((b"yes", first.commit_transaction), (b"no", first.abort_transaction)):
        first.begin_transaction()
        first.produce(topic, value)
        assert first.flush(ANSWER_S_MAX) == 0
        end(ANSWER_S_MAX)
    second = Producer({"bootstrap.servers": bootstrap, "transactional.id": name})
    second.init_transactions(ANSWER_S_MAX)
    second.begin_transaction()
    second.produce(topic, b"later")
    second.commit_transaction(ANSWER_S_MAX)
    first.begin_transaction()
    with pytest.raises(KafkaException):
        first.produce(topic, b"fenced")
        first.commit_transaction(ANSWER_S_MAX)
    with a_consumer(bootstrap, group, topic, **{"isolation.level": "read_committed"}) as consumer:
        assert [message.value() for message in take(consumer, 2)] == [b"yes", b"later"]
        assert consumer.consume(1, 0.5) == []


def test_a_transaction_commits_the_offsets_of_what_it_consumed(bootstrap, admin, topic, group, fresh):
    create(admin, topic)
    create(admin, f"{topic}-out")
    produce(bootstrap, topic, 10)
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": fresh("tx")})
    producer.init_transactions(ANSWER_S_MAX)
    place = TopicPartition(topic, 0)
    with a_consumer(bootstrap, group, topic) as consumer:
        found = take(consumer, 10)
        for end in (producer.abort_transaction, producer.commit_transaction):
            producer.begin_transaction()
            for message in found:
                producer.produce(f"{topic}-out", message.value())
            producer.send_offsets_to_transaction(
                consumer.position([place]), consumer.consumer_group_metadata(), ANSWER_S_MAX
            )
            end(ANSWER_S_MAX)
        (committed,) = consumer.committed([place], timeout=ANSWER_S_MAX)
    assert committed.offset == 10
    with a_consumer(
        bootstrap, f"{group}-out", f"{topic}-out", **{"isolation.level": "read_committed"}
    ) as reader:
        assert [message.value() for message in take(reader, 10)] == [message.value() for message in found]


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_two_members_share_a_group(bootstrap, admin, topic, group, strategy):
    create(admin, topic, partitions=4)
    options = {"partition.assignment.strategy": strategy}
    with a_consumer(bootstrap, group, topic, **options) as first:
        with a_consumer(bootstrap, group, topic, **options) as second:
            deadline = time.monotonic() + ANSWER_S_MAX
            while [len(one.assignment()) for one in (first, second)] != [2, 2]:
                assert time.monotonic() < deadline, (first.assignment(), second.assignment())
                assert first.consume(1, 0.05) == second.consume(1, 0.05) == []
            held = [{place.partition for place in one.assignment()} for one in (first, second)]
        assert held[0] | held[1] == {0, 1, 2, 3}
        deadline = time.monotonic() + ANSWER_S_MAX
        while len(first.assignment()) != 4:
            assert time.monotonic() < deadline, first.assignment()
            assert first.consume(1, 0.05) == []


def test_offsets_are_found_by_time_and_at_both_ends(bootstrap, admin, topic, group):
    create(admin, topic, partitions=2)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50})
    base_ms = time.time_ns() // 1_000_000 - 60_000
    for number in range(10):
        producer.produce(topic, b"v", partition=0, timestamp=base_ms + number)
    assert producer.flush(ANSWER_S_MAX) == 0
    with a_consumer(bootstrap, group) as consumer:
        place, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
        assert consumer.get_watermark_offsets(place, timeout=ANSWER_S_MAX) == (0, 10)
        assert consumer.get_watermark_offsets(empty, timeout=ANSWER_S_MAX) == (0, 0)
        asked = [TopicPartition(topic, 0, base_ms + 4), TopicPartition(topic, 0, base_ms + 10)]
        found = [consumer.offsets_for_times([one], timeout=ANSWER_S_MAX)[0].offset for one in asked]
        assert found == [4, -1]
        assert consumer.committed([place], timeout=ANSWER_S_MAX)[0].offset == OFFSET_INVALID
        consumer.assign([TopicPartition(topic, 0, 7)])
        messages = take(consumer, 3)
    assert [(one.offset(), one.timestamp()) for one in messages] == [
        (number, (TIMESTAMP_CREATE_TIME, base_ms + number)) for number in (7, 8, 9)
    ]


def test_topics_and_settings_are_administered(admin, topic):
    create(admin, topic, retention_ms="60000")
    with pytest.raises(KafkaException) as refused:
        create(admin, topic)
    assert refused.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    for done in admin.create_partitions([NewPartitions(topic, 3)]).values():
        done.result(ANSWER_S_MAX)
    (settings,) = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]).values()
    found = settings.result(ANSWER_S_MAX)
    assert (found["retention.ms"].value, found["retention.ms"].is_default) == ("60000", False)
    assert (found["cleanup.policy"].value, found["cleanup.policy"].is_default) == ("delete", True)
    deadline = time.monotonic() + ANSWER_S_MAX
    while len(admin.list_topics(timeout=ANSWER_S_MAX).topics[topic].partitions) != 3:
        assert time.monotonic() < deadline
    for done in admin.delete_topics([topic]).values():
        done.result(ANSWER_S_MAX)
    deadline = time.monotonic() + ANSWER_S_MAX
    while topic in admin.list_topics(timeout=ANSWER_S_MAX).topics:
        assert time.monotonic() < deadline


def test_groups_are_listed_and_described(bootstrap, admin, topic, group):
    create(admin, topic)
    produce(bootstrap, topic, 1)
    with a_consumer(bootstrap, group, topic) as consumer:
        take(consumer, 1)
        consumer.commit(asynchronous=False)
        (described,) = admin.describe_consumer_groups([group]).values()
        found = described.result(ANSWER_S_MAX)
        listed = admin.list_consumer_groups().result(ANSWER_S_MAX)
    assert (found.group_id, found.state.name, len(found.members)) == (group, "STABLE", 1)
    assert group in {one.group_id for one in listed.valid}


def test_a_message_that_is_too_large_is_refused_by_the_broker(bootstrap, admin, topic):
    create(admin, topic, max_message_bytes="2000")
    faults = []
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, bytes(3_000), on_delivery=lambda error, _: faults.append(error and error.code()))
    producer.produce(topic, bytes(300), partition=0)
    assert producer.flush(ANSWER_S_MAX) == 0
    assert faults == [KafkaError.MSG_SIZE_TOO_LARGE]


def test_statistics_say_how_far_a_consumer_is_behind(bootstrap, admin, topic, group):
    create(admin, topic)
    produce(bootstrap, topic, 100)
    lags = []

    def noted(text: str) -> None:
        partition = json.loads(text)["topics"].get(topic, {}).get("partitions", {}).get("0", {})
        lags.append(partition.get("consumer_lag"))

    options = {"statistics.interval.ms": 100, "stats_cb": noted}
    with a_consumer(bootstrap, group, topic, **options) as consumer:
        take(consumer, 100)
        consumer.commit(asynchronous=False)
        deadline = time.monotonic() + ANSWER_S_MAX
        while 0 not in lags:
            assert time.monotonic() < deadline, lags
            assert consumer.consume(1, 0.1) == []
