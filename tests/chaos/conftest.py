"""The stage of the failure table: one world, in one event loop, and the judgement of all that it met."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from services.rating.book.file import load
from services.runtime.spool.survey import surveyed
from tests.chaos.clients import Clients
from tests.chaos.judge import judge
from tests.chaos.run import gathered
from tests.chaos.world import World
from tests.integration.kafka.clients import until_true

START_S_MAX = 180.0
TEST_S_MAX = 150.0
WAIT_S_MAX = 60.0


class Stage:
    """The world, its clients, and the one event loop that the whole module runs in."""

    def __init__(self, runner, world, clients):
        self._runner = runner
        self.world = world
        self.clients = clients

    def run(self, test):
        self._runner.run(asyncio.wait_for(test, TEST_S_MAX))

    async def ask(self, *asks):
        return await asyncio.gather(*(self.clients.ask(each) for each in asks))

    async def served(self, *asks):
        """Ask, and insist on complete answers."""
        receipts = await self.ask(*asks)
        assert [receipt.ending for receipt in receipts] == ["complete"] * len(asks), receipts
        return receipts

    async def is_proven(self, *more):
        """When all is quiet, nothing that any client has got is missing, doubled or wrong."""
        await self.world.until_ready()
        await self.world.until_quiet()
        judgement = judge(await gathered(self.world, self.clients, *more), load("", ""))
        assert judgement.is_clean, str(judgement)

    async def row(self, receipt, columns="outcome, usage_status, cost_status"):
        """The one row of an exchange, once it is there."""
        sql = f"SELECT {columns} FROM tollhouse.usage WHERE request_id = '{receipt.request_id}'"

        async def is_there():
            return bool(await self.world.rows(sql))

        await until_true(is_there, WAIT_S_MAX)
        (row,) = await self.world.rows(sql)
        return row

    def waiting(self):
        """How many entries wait in the spools, and how many exchanges are open in them."""
        found = list(surveyed(self.world.spool_root))
        return sum(each.entries for each in found), sum(each.open_exchanges for each in found)

    @asynccontextmanager
    async def another(self, room, name, settings, kafka=""):
        """Run one more process for the length of a block."""
        process = self.world.another(room, name, settings, kafka)
        await process.start()
        try:
            await process.until_ready()
            yield process
        finally:
            await process.kill()


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"))
    with asyncio.Runner() as runner:
        running = world.running()
        runner.run(asyncio.wait_for(running.__aenter__(), START_S_MAX))
        clients = Clients(world.edge_urls)
        yield Stage(runner, world, clients)
        runner.run(clients.close())
        runner.run(running.__aexit__(None, None, None))
