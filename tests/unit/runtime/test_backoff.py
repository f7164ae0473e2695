"""How long a failure waits before its next try: doubling, limited, and never the same for everybody."""

import asyncio
import heapq

from services.runtime.backoff import WAIT_S_MAX, WAIT_S_MIN, Backoff

ROUNDS = 200


class InstantLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer, so that an hour of waiting takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self._jumped_s = 0.0

    def time(self) -> float:
        return super().time() + self._jumped_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            heapq.heapify(self._scheduled)
            self._jumped_s += max(0.0, self._scheduled[0].when() - self.time())
        super()._run_once()


def waits(backoff, count):
    """How long each of so many waits took."""

    async def measured():
        loop = asyncio.get_running_loop()
        taken = []
        for _ in range(count):
            began = loop.time()
            await backoff.wait()
            taken.append(loop.time() - began)
        return taken

    with asyncio.Runner(loop_factory=InstantLoop) as runner:
        return runner.run(measured())


def assert_between(seconds, longest):
    # The clock also runs a little by itself.
    assert longest / 2 <= seconds <= longest + 0.05, (seconds, longest)


def test_waits_double_up_to_the_limit_and_lie_between_half_and_all_of_it():
    longest = WAIT_S_MIN
    for seconds in waits(Backoff(), 12):
        assert_between(seconds, longest)
        longest = min(longest * 2, WAIT_S_MAX)
    assert longest == WAIT_S_MAX


def test_a_success_begins_anew_with_the_shortest_wait():
    backoff = Backoff(1.0, 60.0)
    waits(backoff, 5)
    backoff.reset()
    first, second = waits(backoff, 2)
    assert_between(first, 1.0)
    assert_between(second, 2.0)


def test_many_who_failed_together_do_not_try_again_together():
    taken = [waits(Backoff(10.0, 10.0), 1)[0] for _ in range(ROUNDS)]
    for seconds in taken:
        assert_between(seconds, 10.0)
    assert max(taken) - min(taken) > 1.0
