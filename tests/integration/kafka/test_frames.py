"""What a broker does with frames that no client library would send."""

import asyncio
import struct

import pytest

from tests.integration.kafka.clients import run

API_VERSIONS, FETCH = 18, 1
UNSUPPORTED_VERSION = 35
CORRELATION = 7
ANSWER_S_MAX = 10


def framed(key: int, version: int, body: bytes = b"") -> bytes:
    data = struct.pack(">hhih", key, version, CORRELATION, -1) + body
    return struct.pack(">i", len(data)) + data


async def answer_to(bootstrap: str, data: bytes) -> bytes:
    """Send bytes; give the frame that comes back, nothing if the connection is closed instead."""
    host, port = bootstrap.split(",")[0].rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(ANSWER_S_MAX):
            head = await reader.read(4)
            return head and await reader.readexactly(struct.unpack(">i", head)[0])
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def test_who_asks_for_the_versions_in_an_unknown_version_learns_which_it_may_ask_in(bootstrap):
    """Asking must never fail: a newer client could not find out what an older broker speaks."""

    async def test():
        answer = await answer_to(bootstrap, framed(API_VERSIONS, 99, b"\0"))
        correlation, error, count = struct.unpack_from(">ihi", answer)
        ranges = {key: (low, high) for key, low, high in struct.iter_unpack(">hhh", answer[10:])}
        assert (correlation, error, count) == (CORRELATION, UNSUPPORTED_VERSION, len(ranges))
        low, high = ranges[API_VERSIONS]
        assert low == 0 < high < 99

    run(test())


def test_every_version_that_is_offered_for_versions_is_answered(bootstrap):
    async def test():
        for version in (0, 1, 2):
            answer = await answer_to(bootstrap, framed(API_VERSIONS, version))
            assert struct.unpack_from(">ih", answer) == (CORRELATION, 0)

    run(test())


@pytest.mark.parametrize(
    "data",
    [
        framed(FETCH, 99),
        framed(FETCH, -1),
        framed(999, 0),
        framed(-1, 0),
        framed(FETCH, 4),
        framed(FETCH, 4, b"\xff" * 40),
        struct.pack(">ih", -1, FETCH),
        struct.pack(">ih", 2**31 - 1, FETCH),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=[
        "too new",
        "negative",
        "unknown",
        "negative kind",
        "cut",
        "nonsense",
        "negative size",
        "2 GiB",
        "http",
    ],
)
def test_anything_else_that_it_does_not_know_closes_the_connection(bootstrap, data):
    async def test():
        assert await answer_to(bootstrap, data) == b""
        assert await answer_to(bootstrap, framed(API_VERSIONS, 0)) != b""

    run(test())
