"""Members of a registry: what an edge knows of keys and how it writes them, without the edge around it."""

import asyncio
import contextlib
import time
from typing import NamedTuple

from services.edge.follower import CONTACT_S, Follower
from services.edge.registry.key_log import KeyLog
from services.edge.registry.table import Registry
from services.edge.registry.writer import Writer
from services.runtime.publisher import Publisher
from tests.integration.runtime import brokers

WAIT_S_MAX = 60.0


class Member(NamedTuple):
    """One that follows the log and writes to it."""

    registry: Registry
    key_log: KeyLog
    writer: Writer

    @property
    def table(self):
        return self.registry.table

    async def until(self, condition):
        """Wait until its table is so."""
        await brokers.until(lambda: condition(self.registry.table), WAIT_S_MAX)


@contextlib.asynccontextmanager
async def member(kafka, now=time.time, contact_s=CONTACT_S, **limits):
    """Run a member until the end of the block, once it has read the log."""
    registry = Registry()
    key_log = KeyLog(registry)
    publisher = Publisher(kafka)
    follower = Follower(kafka, key_log, now, contact_s)
    following = asyncio.create_task(follower.run())
    try:
        await brokers.until(lambda: registry.is_read, WAIT_S_MAX)
        yield Member(registry, key_log, Writer(registry, key_log, publisher, "e", **limits))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await publisher.close()


def records(table):
    """Every record that a table holds, by its kind and id."""
    return sorted((*table.standing(""), *table.deleted()), key=repr)
