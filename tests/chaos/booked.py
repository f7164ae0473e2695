"""Waits for every batch to come to its end, has those taken in that nobody told of, and judges nothing."""

import asyncio
from collections.abc import Callable

from services.batch_tracker.state import CLOSED
from tests.chaos.world import World

BOOKED_S_MAX = 180.0  # what is nobody's waits for its creator for the longest
POLL_S = 0.5
BOOKED_SQL = "SELECT batch_id, phase, items >= items_booked FROM tollhouse.batches"

Say = Callable[[str], None]


async def until_booked(world: World, say: Say) -> None:
    """Return when every batch that Anthropic has is at its end here, or when that takes too long.

    The world must be quiet: a batch that is not known by then was made by a call whose answer was lost, and
    is adopted as a person would do it.
    """
    progress = _Progress(world, say)
    try:
        async with asyncio.timeout(BOOKED_S_MAX):
            while not await progress.is_done():
                await asyncio.sleep(POLL_S)
                await world.until_quiet()
    except TimeoutError:
        say(f"given up after {BOOKED_S_MAX:.0f} s")  # the judge says what is missing


class _Progress:
    def __init__(self, world: World, say: Say) -> None:
        self._world = world
        self._say = say
        self._said = ""
        self._adopted: set[str] = set()

    async def is_done(self) -> bool:
        batches = await self._world.anthropic.batches()
        states = {row[0]: row[1:] for row in await self._world.rows(BOOKED_SQL)}
        over = [each for each in batches if each.is_ended and _is_over(*states.get(each.id, ("", False)))]
        for each in batches:
            if each.id not in states and each.id not in self._adopted:
                self._adopted.add(each.id)
                self._say(await self._world.command("batches", "adopt", each.id))
        self._tell(f"batches: {len(over)} of {len(batches)} at their end")
        self._world.check()
        return len(over) == len(batches)

    def _tell(self, progress: str) -> None:
        if progress != self._said:
            self._said = progress
            self._say(progress)


def _is_over(phase: str, is_stored: bool) -> bool:
    return phase in CLOSED and is_stored
