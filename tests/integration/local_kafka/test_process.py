import asyncio
import json
import signal
import struct
import time

import pytest
from aiokafka import TopicPartition
from confluent_kafka import Producer

from tests.integration.local_kafka.brokers import (
    BrokerProcess,
    consumer,
    create_topic,
    free_port,
    spawn,
    take,
)

STOP_S_MAX = 2.0


def waiting_fetch(topic, wait_ms):
    """Write a fetch request (version 4) that waits for records."""
    head = struct.pack(">hhih", 1, 4, 1, -1) + struct.pack(">iiiib", -1, wait_ms, 1, 1_000, 0)
    place = struct.pack(">iiqi", 1, 0, 0, 1_000)
    body = head + struct.pack(">ih", 1, len(topic)) + topic.encode() + place
    return struct.pack(">i", len(body)) + body


def test_a_kill_loses_nothing_that_was_acknowledged(broker_process):
    acknowledged = set()

    def delivered(error, message):
        if error is None:
            acknowledged.add((message.partition(), message.offset(), message.value()))

    asyncio.run(create_topic(broker_process.address, "t", partitions=3))
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

    async def read():
        places = [TopicPartition("t", number) for number in range(3)]
        async with consumer(broker_process.address, "t") as reader:
            ends = await reader.end_offsets(places)
            return {
                (item.partition, item.offset, item.value) for item in await take(reader, sum(ends.values()))
            }

    found = asyncio.run(read())
    assert len(acknowledged) >= 5_000
    assert acknowledged <= found


def test_positions_transactions_and_producer_ids_survive_a_kill(broker_process):
    address = broker_process.address
    place = TopicPartition("t", 0)

    async def commit_position():
        await create_topic(address, "t")
        async with consumer(address, group_id="g", enable_auto_commit=False) as reader:
            reader.assign([place])
            await reader.commit({place: (1, "here")})

    async def read():
        async with consumer(address, "t", group_id="g2", isolation_level="read_committed") as reader:
            values = [item.value for item in await take(reader, 2)]
        async with consumer(address, group_id="g", enable_auto_commit=False) as reader:
            return values, await reader.committed(place)

    def begin(value):
        sender = Producer({"bootstrap.servers": address, "transactional.id": "tx"})
        sender.init_transactions(10)
        sender.begin_transaction()
        sender.produce("t", value)
        assert sender.flush(10) == 0
        return sender

    asyncio.run(commit_position())
    begin(b"committed").commit_transaction(10)
    left_open = begin(b"open at the kill")
    broker_process.kill()
    left_open.purge()
    broker_process.start()
    begin(b"afterwards").commit_transaction(10)

    assert asyncio.run(read()) == ([b"committed", b"afterwards"], 1)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_at_once_even_while_clients_wait(broker_process, signal_number):
    async def run():
        await create_topic(broker_process.address, "t")
        reader, writer = await asyncio.open_connection("127.0.0.1", broker_process.port)
        writer.write(waiting_fetch("t", 60_000))
        await writer.drain()
        began_s = time.monotonic()
        broker_process.process.send_signal(signal_number)
        assert await reader.read() == b""
        out, err = await asyncio.to_thread(broker_process.process.communicate, timeout=10)
        writer.close()
        return time.monotonic() - began_s, out, err

    took_s, out, err = asyncio.run(run())

    assert took_s < STOP_S_MAX
    assert (broker_process.process.returncode, err) == (0, "")
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["kafka.started", "kafka.stopped"]


def refused(*arguments):
    process = spawn(*arguments)
    out, err = process.communicate(timeout=15)
    return process.returncode, out, err


def test_it_refuses_to_start_with_one_sentence(broker_process, tmp_path):
    port, taken_dir, free_dir = (
        str(broker_process.port),
        str(broker_process.data_dir),
        str(tmp_path / "other"),
    )

    answers = [
        refused("--data-dir", free_dir, "--port", port),
        refused("--data-dir", taken_dir, "--port", str(free_port())),
        refused("--data-dir", free_dir, "--port", "0", "--host", "0.0.0.0"),
        refused("--data-dir", "/proc/nowhere", "--port", "0"),
    ]

    assert answers == [
        (2, "", f"The port {port} on 127.0.0.1 cannot be listened on: Address already in use.\n"),
        (2, "", f"The data directory {taken_dir} is in use by another process.\n"),
        (2, "", "The local Kafka listens on loopback only, and 0.0.0.0 is not a loopback address.\n"),
        (2, "", "The data directory /proc/nowhere cannot be written: No such file or directory.\n"),
    ]


def test_waiting_clients_cost_next_to_nothing(broker_process):
    async def run():
        address = broker_process.address
        await create_topic(address, "t", partitions=12)
        async with consumer(address, "t", group_id="g", fetch_max_wait_ms=500) as reader:
            await reader.getmany(timeout_ms=300)
            before_s = broker_process.cpu_s()
            await reader.getmany(timeout_ms=2_000)
            return broker_process.cpu_s() - before_s

    assert asyncio.run(run()) <= 0.1


def test_a_fresh_broker_can_be_started_many_times(tmp_path):
    process = BrokerProcess(tmp_path / "data")
    for _ in range(3):
        process.start()
        process.stop()
        assert process.process.returncode == 0
