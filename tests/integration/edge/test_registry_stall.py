"""An edge that reads many keys goes on with everything else meanwhile."""

import asyncio

from schemas import topics
from services.edge.follower import POLL_RECORDS_MAX, Follower
from services.edge.registry.key_log import KeyLog
from services.edge.registry.table import Registry
from services.runtime.kafka import KafkaConfig
from services.runtime.topics import migrate_topics
from tests.integration.edge.registry_kafka import running_broker
from tests.integration.edge.test_registry import key_record, publish
from tests.integration.runtime import brokers

KEYS = 5_000
TEST_S_MAX = 60.0


class CountingLog(KeyLog):
    """Counts the records that it takes before anybody else has a turn."""

    def __init__(self, registry):
        super().__init__(registry)
        self.in_turn = 0
        self.in_turn_max = 0

    def take(self, key, value):
        super().take(key, value)
        self.in_turn += 1
        self.in_turn_max = max(self.in_turn_max, self.in_turn)


def test_while_keys_are_read_others_have_a_turn_after_each_poll(tmp_path):
    async def scenario():
        async with running_broker(tmp_path / "kafka") as address:
            kafka = KafkaConfig(bootstrap_servers=address, request_timeout_ms=5_000)
            await migrate_topics(kafka)
            await publish(kafka, [key_record(number) for number in range(KEYS)])
            registry = Registry()
            counting = CountingLog(registry)

            async def others():
                while True:
                    counting.in_turn = 0
                    await asyncio.sleep(0)

            tasks = [asyncio.create_task(each) for each in (Follower(kafka, counting).run(), others())]
            await brokers.until(lambda: registry.is_read, TEST_S_MAX)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (len(registry.table), counting.topic) == (KEYS, topics.KEYS)
            assert counting.in_turn_max <= POLL_RECORDS_MAX

    async def bounded():
        async with asyncio.timeout(TEST_S_MAX):
            await scenario()

    asyncio.run(bounded())
