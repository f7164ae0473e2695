"""Says how much of what topics held at a moment a consumer group has not done yet; joins no group."""

# aiokafka annotates only part of its API.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import contextlib
from collections.abc import AsyncGenerator, Collection, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schemas.topics import topic
from services.runtime.errors import TollhouseError
from services.runtime.groupless import groupless
from services.runtime.kafka import KafkaConfig

Ends = Mapping[TopicPartition, int]
"""Where partitions ended at a moment: whoever has got so far has done all that they held then."""


class KafkaSilent(TollhouseError):
    """Kafka does not answer, or has not the topics: nothing is known of any group."""


class LagReader:
    """Asks where topics end, and how far a group is."""

    def __init__(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> None:
        self._consumer = consumer
        self._admin = admin

    async def ends(self, names: Collection[str]) -> Ends:
        """Give where these topics end now."""
        here = await self._consumer.topics()
        absent = [name for name in names if name not in here]
        if absent:
            raise KafkaSilent(f"has no {absent[0]}")
        places = [TopicPartition(name, number) for name in names for number in range(topic(name).partitions)]
        return await self._consumer.end_offsets(places)

    async def behind(self, group_id: str, ends: Ends) -> int:
        """Count the records before those ends that the group has not committed; what is deleted is none."""
        done = await self._admin.list_consumer_group_offsets(group_id)
        firsts = await self._consumer.beginning_offsets(list(ends))
        return sum(
            max(0, end - max(firsts[place], done[place].offset if place in done else 0))
            for place, end in ends.items()
        )


@contextlib.asynccontextmanager
async def lag_reader(kafka: KafkaConfig) -> AsyncGenerator[LagReader]:
    """Open a reader for a block; KafkaSilent where Kafka does not answer before or in it."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=kafka.bootstrap_servers,
        client_id=kafka.client_id,
        request_timeout_ms=kafka.request_timeout_ms,
    )
    try:
        async with groupless(kafka) as consumer:
            await admin.start()
            yield LagReader(consumer, admin)
    except (KafkaError, OSError) as exc:
        raise KafkaSilent(f"does not answer ({type(exc).__name__})") from exc
    finally:
        await admin.close()
