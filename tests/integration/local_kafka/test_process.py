"""The stand-in as a process: its options, its refusals, its end, and what it has after a kill."""

import asyncio
import contextlib
import signal
import struct
import time

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.protocol.group import JoinGroupRequest
from confluent_kafka import Producer

from tests.integration.kafka.clients import (
    a_client,
    a_consumer,
    a_producer,
    an_admin,
    create,
    read,
    run,
    settings_of,
    take,
    until_true,
)
from tests.integration.local_kafka.brokers import BrokerProcess, refused

STOP_S_MAX = 2.0
INVALID_SESSION_TIMEOUT, MEMBER_ID_REQUIRED = 26, 79


def waiting_fetch(topic, wait_ms):
    """Write a fetch request (version 4) that waits for records."""
    head = struct.pack(">hhih", 1, 4, 1, -1) + struct.pack(">iiiib", -1, wait_ms, 1, 1_000, 0)
    place = struct.pack(">iiqi", 1, 0, 0, 1_000)
    body = head + struct.pack(">ih", 1, len(topic)) + topic.encode() + place
    return struct.pack(">i", len(body)) + body


@pytest.fixture
def started(tmp_path):
    """Give a way to start a broker with options."""
    processes = []

    def start(*options):
        processes.append(BrokerProcess(tmp_path / f"data-{len(processes)}", *options))
        return processes[-1].start().address

    yield start
    for process in processes:
        process.stop()


def test_a_kill_loses_nothing_that_was_acknowledged(broker_process):
    acknowledged = set()

    def delivered(error, message):
        if error is None:
            acknowledged.add((message.partition(), message.offset(), message.value()))

    run(create(broker_process.address, "t", partitions=3))
    sender = Producer({"bootstrap.servers": broker_process.address, "enable.idempotence": True})
    for number in range(50_000):
        sender.produce("t", b"%d" % number * 20, partition=number % 3, on_delivery=delivered)
    deadline_s = time.monotonic() + 20
    while len(acknowledged) < 5_000 and time.monotonic() < deadline_s:
        sender.poll(0.01)
    broker_process.kill()
    sender.poll(0.1)
    sender.purge()
    broker_process.start()

    async def test():
        places = [TopicPartition("t", number) for number in range(3)]
        async with a_consumer(broker_process.address, "t") as reader:
            ends = await reader.end_offsets(places)
            found = {
                (item.partition, item.offset, item.value) for item in await take(reader, sum(ends.values()))
            }
        assert len(acknowledged) >= 5_000
        assert acknowledged <= found

    run(test())


def test_positions_transactions_and_producer_ids_survive_a_kill(broker_process):
    address = broker_process.address
    place = TopicPartition("t", 0)

    async def commit_position():
        await create(address, "t")
        async with a_consumer(address, group_id="g") as reader:
            reader.assign([place])
            await reader.commit({place: (1, "here")})

    async def test():
        records = await read(address, "t", 2, isolation_level="read_committed")
        assert [record.value for record in records] == [b"committed", b"afterwards"]
        async with a_consumer(address, group_id="g") as reader:
            assert await reader.committed(place) == 1

    def begin(value):
        sender = Producer({"bootstrap.servers": address, "transactional.id": "tx"})
        sender.init_transactions(10)
        sender.begin_transaction()
        sender.produce("t", value)
        assert sender.flush(10) == 0
        return sender

    run(commit_position())
    begin(b"committed").commit_transaction(10)
    left_open = begin(b"open at the kill")
    broker_process.kill()
    left_open.purge()
    broker_process.start()
    begin(b"afterwards").commit_transaction(10)
    run(test())


def test_settings_and_their_changes_survive_a_kill(broker_process):
    async def test():
        await create(broker_process.address, "t", cleanup_policy="compact", retention_ms=5)
        before = await settings_of(broker_process.address, "t")
        broker_process.kill()
        broker_process.start()
        assert await settings_of(broker_process.address, "t") == before

    run(test())


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_at_once_even_while_clients_wait(broker_process, signal_number):
    async def stop():
        await create(broker_process.address, "t")
        reader, writer = await asyncio.open_connection("127.0.0.1", broker_process.port)
        writer.write(waiting_fetch("t", 60_000))
        await writer.drain()
        began_s = time.monotonic()
        broker_process.process.send_signal(signal_number)
        assert await reader.read() == b""
        await asyncio.to_thread(broker_process.wait)
        writer.close()
        assert time.monotonic() - began_s < STOP_S_MAX
        assert (broker_process.process.returncode, broker_process.events) == (0, ["kafka.stopped"])

    run(stop())


def test_it_refuses_to_start_with_one_sentence(broker_process, tmp_path):
    port, taken_dir, free_dir = (
        str(broker_process.port),
        str(broker_process.data_dir),
        str(tmp_path / "other"),
    )

    answers = [
        refused("--data-dir", free_dir, "--port", port),
        refused("--data-dir", taken_dir, "--port", "0"),
        refused("--data-dir", free_dir, "--port", "0", "--host", "0.0.0.0"),
        refused("--data-dir", "/proc/nowhere", "--port", "0"),
    ]

    sentences = [
        f"The port {port} on 127.0.0.1 cannot be listened on: Address already in use.",
        f"The data directory {taken_dir} is in use by another process.",
        "The local Kafka listens on loopback only, and 0.0.0.0 is not a loopback address.",
        "The data directory /proc/nowhere cannot be written: No such file or directory.",
    ]
    assert answers == [(2, "", f"tollhouse local-kafka: {sentence}\n") for sentence in sentences]


def test_unknown_topics_are_created_where_that_is_asked_for(started):
    address = started("--auto-create-partitions", "2")

    async def test():
        async with a_producer(address) as producer:
            await producer.send_and_wait("new", b"v")
            assert await producer.partitions_for("new") == {0, 1}

    run(test())


def test_shorter_sessions_than_six_seconds_are_taken_where_that_is_asked_for(started):
    address = started("--session-timeout-ms-min", "300")

    async def test():
        async with a_client(address) as client:
            node = client.get_random_node()
            codes = [
                (
                    await client.send(
                        node, JoinGroupRequest("g", session_ms, 1_000, "", None, "consumer", [("range", b"")])
                    )
                ).error_code
                for session_ms in (299, 300)
            ]
        assert codes == [INVALID_SESSION_TIMEOUT, MEMBER_ID_REQUIRED]
        await create(address, "t", partitions=2)
        options = {"group_id": "g", "session_timeout_ms": 300, "heartbeat_interval_ms": 50}
        async with a_consumer(address, "t", **options) as reader:
            assert len(reader.assignment()) == 2

    run(test())


def test_more_partitions_than_a_slip_of_the_keyboard_deserves_are_refused(broker_process):
    async def test():
        async with an_admin(broker_process.address) as admin:
            reply = await admin.create_topics([NewTopic("many", 1_001, 1)])
            assert [error[1] for error in reply.topic_errors] == [37]
            assert await admin.list_topics() == []

    run(test())


def test_waiting_clients_cost_next_to_nothing(broker_process):
    async def test():
        address = broker_process.address
        await create(address, "t", partitions=12)
        async with a_consumer(address, "t", group_id="g", fetch_max_wait_ms=500) as reader:
            await reader.getmany(timeout_ms=300)
            before_s = broker_process.cpu_s()
            await reader.getmany(timeout_ms=2_000)
            assert broker_process.cpu_s() - before_s <= 0.1

    run(test())


def test_a_log_that_expires_gives_its_disk_back(started, tmp_path):
    """Also where nobody writes any more: the segment that was being written goes too."""
    address = started("--retention-interval-s", "0.05")

    async def test():
        await create(address, "t", retention_ms=1_000)
        async with a_producer(address) as producer:
            await producer.send_and_wait("t", b"x" * 100_000, timestamp_ms=1_700_000_000_000)

        async def is_empty() -> bool:
            with contextlib.suppress(FileNotFoundError):  # one that is deleted while it is looked at
                return not any(path.stat().st_size for path in tmp_path.glob("data-*/logs/t-0/*.log"))
            return False

        await until_true(is_empty)

    run(test())
