"""How calls are spaced."""

import asyncio
import time

from services.batch_tracker.throttle import Throttle


def taken(work):
    began = time.monotonic()
    asyncio.run(work)
    return time.monotonic() - began


def test_calls_go_evenly_in_the_order_in_which_they_came():
    order = []

    async def run():
        throttle = Throttle(per_minute_max=1_200)

        async def call(number):
            await throttle.turn()
            order.append(number)

        await asyncio.gather(*(call(number) for number in range(4)))

    assert taken(run()) >= 3 * 60 / 1_200
    assert order == [0, 1, 2, 3]


def test_nobody_goes_while_anthropic_asked_to_wait():
    async def run():
        throttle = Throttle(per_minute_max=60_000)
        throttle.hold(0.1)
        throttle.hold(0.01)
        await throttle.turn()

    assert taken(run()) >= 0.1
