"""Clients that read slowly, send nonsense or go away: what they cost the broker and everybody else."""

import asyncio
import os
import random
import struct

import pytest
from aiokafka import TopicPartition
from aiokafka.protocol import types
from aiokafka.protocol.types import Array, Bytes, CompactString, Schema, String

from services.local.kafka import wire
from tests.integration.kafka.clients import a_consumer, a_producer, create, read_to_end, run, until_true
from tests.integration.local_kafka.test_process import waiting_fetch

SEED = int(os.environ.get("TOLLHOUSE_TEST_SEED", "20261122"))
FRAMES = 3_000
MEBIBYTE = 1024**2
LOG_MIB = 96
CONNECTIONS_MAX = 1_000
SIZES = {types.Int8: 1, types.Int16: 2, types.Int32: 4, types.Int64: 8}


def framed(key, version, body=b""):
    data = struct.pack(">hhih", key, version, 7, -1) + body
    return struct.pack(">i", len(data)) + data


def fetch_everything(topic):
    """Write a fetch request (version 4) for as much as the broker will give from the start."""
    head = struct.pack(">hhih", 1, 4, 1, -1) + struct.pack(">iiiib", -1, 0, 1, 2**31 - 1, 0)
    place = struct.pack(">iiqi", 1, 0, 0, 2**31 - 1)
    body = head + struct.pack(">ih", 1, len(topic)) + topic.encode() + place
    return struct.pack(">i", len(body)) + body


async def fill(address, topic, mebibytes):
    value = os.urandom(MEBIBYTE)
    async with a_producer(address, max_request_size=4 * MEBIBYTE) as producer:
        for _ in range(mebibytes):
            await producer.send_and_wait(topic, value)


async def stubborn_readers(port, count):
    """Connect clients that ask for everything, again and again, and never read an answer."""
    writers = []
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.transport.pause_reading()
        writer.write(fetch_everything("t") * 20)
        writers.append(writer)
    return writers


def test_clients_that_never_read_cost_nobody_else_anything(broker_process):
    address = broker_process.address

    async def test():
        await create(address, "t", max_message_bytes=2 * MEBIBYTE)
        await fill(address, "t", 16)
        writers = await stubborn_readers(broker_process.port, 60)
        try:
            async with a_producer(address) as producer:
                for number in range(50):
                    sent = await asyncio.wait_for(producer.send_and_wait("t", b"%d" % number), 5)
                    assert sent.offset == 16 + number
            assert len(await read_to_end(address, "t")) == 66
            # Sixty answers of 8 MiB would be more.
            assert broker_process.memory_bytes() < 400 * MEBIBYTE
        finally:
            for writer in writers:
                writer.transport.abort()

    run(test())


def test_a_client_that_goes_while_its_fetch_waits_leaves_nothing_behind(broker_process):
    """Else a thousand of them would take every connection there is, for minutes."""

    async def test():
        await create(broker_process.address, "t")

        async def come_and_go():
            _, writer = await asyncio.open_connection("127.0.0.1", broker_process.port)
            writer.write(waiting_fetch("t", 300_000))
            await writer.drain()
            writer.close()

        for _ in range(CONNECTIONS_MAX // 50 + 1):
            await asyncio.gather(*[come_and_go() for _ in range(50)])

        async def is_served() -> bool:
            try:
                async with a_producer(broker_process.address) as producer:
                    return (await producer.send_and_wait("t", b"v")).offset >= 0
            except OSError:
                return False

        await until_true(is_served)

    run(test())


def test_a_request_behind_one_that_waits_is_answered_in_its_turn(broker_process):
    async def test():
        await create(broker_process.address, "t")
        reader, writer = await asyncio.open_connection("127.0.0.1", broker_process.port)
        writer.write(waiting_fetch("t", 300) + framed(18, 0))
        async with asyncio.timeout(10):
            correlations = []
            for _ in range(2):
                (length,) = struct.unpack(">i", await reader.readexactly(4))
                correlations.append(struct.unpack_from(">i", await reader.readexactly(length))[0])
        writer.close()
        assert correlations == [1, 7]

    run(test())


def test_reading_a_log_takes_no_memory_for_its_size(broker_process):
    address = broker_process.address

    async def test():
        await create(address, "t", max_message_bytes=2 * MEBIBYTE)
        await fill(address, "t", 4)
        await read_to_end(address, "t")
        before_bytes = broker_process.memory_bytes()
        await fill(address, "t", LOG_MIB)
        place = TopicPartition("t", 0)
        async with a_consumer(address, fetch_max_bytes=50 * MEBIBYTE) as consumer:
            consumer.assign([place])
            while await consumer.position(place) < LOG_MIB + 4:
                await consumer.getmany(timeout_ms=1_000, max_records=10)
        assert broker_process.memory_bytes() - before_bytes < LOG_MIB * MEBIBYTE / 2

    run(test())


def test_a_frame_that_is_larger_than_its_kind_needs_closes_the_connection_unread(broker_process):
    async def test():
        for head in (struct.pack(">ih", 100 * MEBIBYTE + 1, 0), struct.pack(">ih", 4 * MEBIBYTE + 1, 3)):
            reader, writer = await asyncio.open_connection("127.0.0.1", broker_process.port)
            writer.write(head)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()

    run(test())


class Fuzz:
    """Requests whose bytes are those of their kind and whose fields are anything."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.offered = [item for item in wire.offered_ranges() if item.api_key != 18]

    def frame(self):
        item = self.chance.choice(self.offered)
        version = self.chance.randint(item.min_version, item.max_version)
        body = bytearray(self._written(wire._codec(item.api_key, version).SCHEMA))
        for _ in range(self.chance.choice((0, 0, 1, 3)) if body else 0):
            body[self.chance.randrange(len(body))] = self.chance.randrange(256)
        cut = len(body) if self.chance.random() < 0.8 else self.chance.randrange(len(body) + 1)
        return framed(item.api_key, version, bytes(body[:cut]))

    def _written(self, kind):
        if isinstance(kind, Schema):
            return b"".join(self._written(field) for field in kind.fields)
        if isinstance(kind, Array):
            count = self.chance.choice((0, 1, 1, 2, 3))
            wrong = self.chance.random() < 0.05
            said = self.chance.choice((-1, 2**31 - 1)) if wrong else count
            return struct.pack(">i", said) + b"".join(self._written(kind.array_of) for _ in range(count))
        if isinstance(kind, String) and not isinstance(kind, CompactString):
            text = self.chance.choice((b"", b"t", b"g", b"range", b"consumer", b"\xff", b"x" * 300))
            return struct.pack(">h", len(text)) + text
        if kind is Bytes:
            data = self.chance.randbytes(self.chance.choice((0, 3, 61, 200)))
            return struct.pack(">i", len(data)) + data
        if kind is types.Boolean:
            return self.chance.choice((b"\0", b"\1"))
        size = SIZES[kind]
        number = self.chance.choice((0, 0, 1, -1, 3, 10_000, self.chance.getrandbits(size * 8 - 1)))
        return (number % 2 ** (size * 8)).to_bytes(size, "big")


@pytest.mark.parametrize("seed", [SEED, SEED + 1])
def test_no_frame_can_stop_the_broker_or_make_it_grow(broker_process, seed):
    print(f"TOLLHOUSE_TEST_SEED={seed}")
    fuzz = Fuzz(seed)

    async def send(count):
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", broker_process.port)
            # What is asked behind it is answered unless the frame closed the connection or waits.
            writer.write(fuzz.frame() + framed(18, 0))
            try:
                async with asyncio.timeout(0.02):
                    await reader.read(4)
            except (TimeoutError, ConnectionResetError):
                pass
            finally:
                writer.transport.abort()

    async def test():
        await create(broker_process.address, "t")
        await send(FRAMES // 5)
        before_bytes = broker_process.memory_bytes()
        await send(FRAMES)
        assert broker_process.memory_bytes() - before_bytes < 16 * MEBIBYTE
        await create(broker_process.address, "afterwards")
        async with a_producer(broker_process.address) as producer:
            assert (await producer.send_and_wait("afterwards", b"still here")).offset == 0

    run(test(), 60)
