"""How long a client is waited for: for its body, for the next bytes of it, and for an answer it has left."""

import asyncio
import contextlib

import pytest

from services.edge.body_memory import BodyMemory
from services.edge.client import (
    BodyTooLarge,
    BodyTooSlow,
    ClientGone,
    ClientWatch,
    Drains,
    PassingBody,
    whole_body,
)
from services.edge.config import DrainConfig
from tests.unit.edge.virtual_time import seconds_of

WAIT_S_MAX = 20.0
FOR_EVER_S = 10_000.0
GONE = {"type": "http.disconnect"}


def piece(body, more_body=True):
    return {"type": "http.request", "body": body, "more_body": more_body}


def receiving(*messages):
    """Give these messages, and then wait for ever."""
    left = list(messages)

    async def receive():
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return receive


def run(scene):
    return asyncio.run(asyncio.wait_for(scene, WAIT_S_MAX))


def read(receive, bytes_max=100, **limits):
    return run(whole_body(receive, bytes_max, BodyMemory(1000).lease(), **limits))


def test_a_body_is_read_to_its_end():
    assert read(receiving(piece(b"ab"), piece(b""), piece(b"c", more_body=False))) == b"abc"


def test_a_body_that_does_not_come_to_its_end_in_time_is_too_slow():
    with pytest.raises(BodyTooSlow):
        read(receiving(piece(b"ab")), seconds_max=0.02)


@pytest.mark.parametrize(("limits", "seconds"), [({}, 300.0), ({"seconds_max": 7.0}, 7.0)])
@pytest.mark.parametrize("pause_s", [1.0, FOR_EVER_S], ids=["trickles", "stands still"])
def test_a_body_that_is_read_first_has_so_long_for_all_of_it(pause_s, limits, seconds):
    async def receive():
        await asyncio.sleep(pause_s)
        return piece(b"")

    async def scene():
        with pytest.raises(BodyTooSlow):
            await whole_body(receive, 100, BodyMemory(1000).lease(), **limits)

    assert seconds_of(scene()) == pytest.approx(seconds)


def test_a_passing_body_may_take_any_time_as_long_as_it_is_never_silent_for_too_long():
    pauses_s = [9.0] * 100 + [10.5]

    async def receive():
        await asyncio.sleep(pauses_s.pop(0))
        return piece(b"x")

    async def scene():
        body = PassingBody(receive, 10.0)
        with pytest.raises(BodyTooSlow):
            async for _ in body:
                await asyncio.sleep(60.0)  # upstream's own time, and not the client's

    assert seconds_of(scene()) == pytest.approx(100 * 69.0 + 10.0)


def test_a_body_that_is_too_large_or_left_alone_is_told_apart():
    with pytest.raises(BodyTooLarge):
        read(receiving(piece(b"abc")), bytes_max=2)
    with pytest.raises(ClientGone):
        read(receiving(piece(b"abc"), GONE))


async def pieces_of(body):
    return [each async for each in body]


def test_a_passing_body_passes_piece_by_piece():
    body = PassingBody(receiving(piece(b"ab"), piece(b""), piece(b"c", more_body=False)), FOR_EVER_S)
    assert run(pieces_of(body)) == [b"ab", b"c"]
    assert body.fault is None


@pytest.mark.parametrize(("messages", "fault"), [((), BodyTooSlow), ((GONE,), ClientGone)])
def test_why_a_passing_body_has_no_end_is_told_to_both_who_wait(messages, fault):
    body = PassingBody(receiving(piece(b"ab"), *messages), 0.02)

    async def scene():
        behind = asyncio.create_task(body.receive_behind())
        with pytest.raises(fault):
            await pieces_of(body)
        with pytest.raises(fault):
            await behind

    run(scene())
    assert isinstance(body.fault, fault)


class CountedDrains(Drains):
    """Remembers how many ran at once."""

    most = 0

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "running":
            self.most = max(self.most, value)


async def watched(receive, limit_s, seconds_max):
    """Watch a client until it is known to be gone; give when its answer ends, from now, and the drains."""
    drains = CountedDrains(DrainConfig(seconds_max=seconds_max))
    now = asyncio.get_running_loop().time()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s) as limit:
            with ClientWatch(receive, limit, drains) as client:
                await asyncio.wait([client._task])
            # Leaving lets go of the drain, which was counted as long as it ran.
    ends_in_s = limit.when() - now
    return client.is_gone, round(ends_in_s, -2), drains.most, drains.running


@pytest.mark.parametrize(
    ("limit_s", "seconds_max", "ends_in_s"),
    [
        (None, 3000.0, 3000.0),
        (9000.0, 3000.0, 3000.0),  # reading on may be shorter than the exchange's own limit
        (3000.0, 9000.0, 3000.0),  # and never makes it longer
        (9000.0, 0.0, 0.0),
    ],
)
def test_an_answer_that_is_read_on_ends_by_the_earlier_of_both_limits(limit_s, seconds_max, ends_in_s):
    assert run(watched(receiving(piece(b""), GONE), limit_s, seconds_max)) == (True, ends_in_s, 1, 0)


def test_a_client_that_fell_silent_ends_its_answer_and_is_not_read_on():
    body = PassingBody(receiving(), 0.01)

    async def scene():
        reading = asyncio.create_task(pieces_of(body))
        seen = await watched(body.receive_behind, 9000.0, 3000.0)
        with pytest.raises(BodyTooSlow):
            await reading
        return seen

    assert run(scene()) == (False, 0.0, 0, 0)
