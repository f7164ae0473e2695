import time

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

COUNT = 2_000


def create(address, name="t", partitions=3):
    client = AdminClient({"bootstrap.servers": address})
    for future in client.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(10)
    return client


def read(address, count, timeout_s=15, **options):
    """Read `count` values in a group of its own."""
    reader = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "g",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6_000,
            **options,
        }
    )
    reader.subscribe(["t"])
    found, deadline = [], time.monotonic() + timeout_s
    try:
        while len(found) < count and time.monotonic() < deadline:
            for message in reader.consume(500, 0.2):
                assert message.error() is None, message.error()
                found.append(message)
        if found:
            reader.commit(asynchronous=False)
        places = [TopicPartition("t", number) for number in range(3)]
        return found, sum(max(place.offset, 0) for place in reader.committed(places, timeout=5))
    finally:
        reader.close()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"enable.idempotence": True},
        *({"compression.type": codec} for codec in ("gzip", "snappy", "lz4", "zstd")),
    ],
    ids=lambda options: next(iter(options.values()), "plain"),
)
def test_librdkafka_writes_and_reads_everything(broker_process, options):
    create(broker_process.address)
    faults = []
    sender = Producer({"bootstrap.servers": broker_process.address, "linger.ms": 5, **options})
    for number in range(COUNT):
        sender.produce(
            "t",
            b"%d" % number * 20,
            key=b"%d" % number,
            headers=[("h", b"1")],
            on_delivery=lambda error, _: faults.append(error) if error else None,
        )
    assert sender.flush(15) == 0

    found, committed = read(broker_process.address, COUNT)

    assert faults == []
    assert sorted(int(message.key()) for message in found) == list(range(COUNT))
    assert all(message.value() == message.key() * 20 for message in found)
    assert {tuple(message.headers()) for message in found} == {(("h", b"1"),)}
    assert committed == COUNT


def test_librdkafka_runs_transactions(broker_process):
    address = broker_process.address
    create(address, partitions=1)
    sender = Producer({"bootstrap.servers": address, "transactional.id": "tx"})
    sender.init_transactions(10)
    for value, end in ((b"yes", sender.commit_transaction), (b"no", sender.abort_transaction)):
        sender.begin_transaction()
        sender.produce("t", value)
        sender.flush(5)
        end(10)
    successor = Producer({"bootstrap.servers": address, "transactional.id": "tx"})
    successor.init_transactions(10)
    successor.begin_transaction()
    successor.produce("t", b"later")
    successor.commit_transaction(10)

    found, _ = read(address, 2, **{"isolation.level": "read_committed"})

    assert [message.value() for message in found] == [b"yes", b"later"]
    with pytest.raises(KafkaException):
        sender.begin_transaction()
        sender.produce("t", b"fenced")
        sender.commit_transaction(10)


def test_librdkafka_finds_offsets_and_administers(broker_process):
    address = broker_process.address
    client = create(address)
    sender = Producer({"bootstrap.servers": address})
    for number in range(10):
        sender.produce("t", b"v", partition=0, timestamp=1_000 + number)
    assert sender.flush(10) == 0
    reader = Consumer({"bootstrap.servers": address, "group.id": "g"})

    marks = reader.get_watermark_offsets(TopicPartition("t", 0), timeout=5)
    (at_time,) = reader.offsets_for_times([TopicPartition("t", 0, 1_004)], timeout=5)
    groups = client.list_topics(timeout=5).topics["t"].partitions
    for future in client.delete_topics(["t"]).values():
        future.result(10)

    assert (marks, at_time.offset, len(groups)) == ((0, 10), 4, 3)
    assert client.list_topics(timeout=5).topics == {}
    reader.close()
