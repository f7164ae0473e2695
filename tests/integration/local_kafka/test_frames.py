import asyncio
import random
import struct

import structlog

from services.local.kafka import wire
from tests.integration.local_kafka.brokers import broker, create_topic, producer

SEED = 20_261_122


def frame(key, version, body=b"", correlation=7):
    data = struct.pack(">hhih", key, version, correlation, -1) + body
    return struct.pack(">i", len(data)) + data


async def exchange(address, data):
    """Send bytes and give what comes back until the broker closes or an answer is whole."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(5):
            head = await reader.read(4)
            return head and await reader.readexactly(struct.unpack(">i", head)[0])
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def test_an_unknown_api_version_is_answered_with_the_versions_on_offer(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            return await exchange(address, frame(18, 9, b"\0"))

    answer = asyncio.run(run())

    assert struct.unpack_from(">ihi", answer) == (7, 35, len(wire.offered_ranges()))


def test_any_other_unknown_version_closes_the_connection_with_one_log_line(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            with structlog.testing.capture_logs() as logs:
                answer = await exchange(address, frame(1, 99))
            return answer, logs

    answer, logs = asyncio.run(run())

    assert answer == b""
    assert logs == [{"event": "request.unsupported", "request": "api 1 version 99", "log_level": "warning"}]


def test_no_bytes_can_stop_the_broker(tmp_path):
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    offered = wire.offered_ranges()

    def garbage():
        item = chance.choice(offered)
        version = chance.randint(item.min_version, item.max_version)
        body = chance.randbytes(chance.randrange(60))
        return frame(item.api_key, version, body)

    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t")
            hopeless = [
                b"GET / HTTP/1.1\r\n\r\n",
                struct.pack(">i", -1),
                struct.pack(">i", 2**31 - 1),
                struct.pack(">i", 3) + b"abc",
                struct.pack(">ihhih", 10, 3, 1, 0, 30_000),
            ]
            answers = [await exchange(address, data) for data in hopeless]
            for _ in range(300):
                # An api versions request behind it makes the broker answer or close, so that nothing hangs.
                await exchange(address, garbage() + frame(18, 0))
            async with producer(address) as sender:
                return answers, (await sender.send_and_wait("t", b"still here")).offset

    answers, offset = asyncio.run(run())

    assert answers == [b""] * 5
    assert offset >= 0
