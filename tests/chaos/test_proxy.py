"""The door does what its faults say, and passes everything when it is mended."""

import asyncio
import contextlib
import time

import pytest

from tests.chaos.proxy import SLOW_BYTES_PER_S, Door

WAIT_S_MAX = 20.0
QUIET_S = 0.3  # how long nothing must come for it to count as nothing


@contextlib.asynccontextmanager
async def echo_behind_a_door():
    async def echo(reader, writer):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    try:
        async with Door(*server.sockets[0].getsockname()).opened() as door:
            yield door
    finally:
        server.close()


def run(test):
    async def bounded():
        async with asyncio.timeout(WAIT_S_MAX), echo_behind_a_door() as door:
            await test(door)

    asyncio.run(bounded())


async def said(connection, data):
    reader, writer = connection
    writer.write(data)
    return await reader.readexactly(len(data))


def test_an_open_door_passes_bytes_both_ways():
    async def test(door):
        connection = await asyncio.open_connection("127.0.0.1", door.port)
        assert await said(connection, b"toll" * 50_000) == b"toll" * 50_000

    run(test)


def test_a_cut_door_ends_what_is_open_and_turns_away_what_comes_until_it_is_mended():
    async def test(door):
        before = await asyncio.open_connection("127.0.0.1", door.port)
        assert await said(before, b"toll") == b"toll"
        door.cut()
        with contextlib.suppress(ConnectionError):
            assert await before[0].read() == b""
        during = await asyncio.open_connection("127.0.0.1", door.port)
        with contextlib.suppress(ConnectionError):
            assert await during[0].read() == b""
        assert door.turned_away == 1
        door.mend()
        assert await said(await asyncio.open_connection("127.0.0.1", door.port), b"toll") == b"toll"

    run(test)


def test_a_reset_is_an_error_for_who_was_connected_and_nothing_for_the_next():
    async def test(door):
        connection = await asyncio.open_connection("127.0.0.1", door.port)
        assert await said(connection, b"toll") == b"toll"
        door.reset()
        with pytest.raises(ConnectionResetError):
            await connection[0].read()
        assert await said(await asyncio.open_connection("127.0.0.1", door.port), b"toll") == b"toll"

    run(test)


def test_a_stalled_door_keeps_everything_for_later():
    async def test(door):
        reader, writer = connection = await asyncio.open_connection("127.0.0.1", door.port)
        assert await said(connection, b"toll") == b"toll"
        door.stall()
        writer.write(b"gate")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), QUIET_S)
        door.mend()
        assert await reader.readexactly(4) == b"gate"

    run(test)


def test_a_slow_door_passes_all_of_it_slowly():
    async def test(door):
        connection = await asyncio.open_connection("127.0.0.1", door.port)
        door.slow()
        began = time.monotonic()
        sent = b"t" * (SLOW_BYTES_PER_S // 2)
        assert await said(connection, sent) == sent
        assert time.monotonic() - began > 0.4

    run(test)
