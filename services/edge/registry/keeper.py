"""Puts the registry of one edge together: what it knows, how it follows, how it writes."""

from schemas.ids import EdgeId
from services.edge.follower import Follower
from services.edge.registry.key_log import KeyLog
from services.edge.registry.table import Registry
from services.edge.registry.writer import Writer
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher
from services.runtime.service import beside


class Keeper:
    """The registry of an edge; without `has_keys` there is none: it is empty, and nothing is read."""

    def __init__(self, kafka: KafkaConfig, edge_id: EdgeId, *, has_keys: bool) -> None:
        self._has_keys = has_keys
        self._publisher = Publisher(kafka)
        self.registry = Registry(is_read=not has_keys)
        key_log = KeyLog(self.registry)
        self._follower = Follower(kafka, key_log)
        self.writer = Writer(self.registry, key_log, self._publisher, edge_id)

    async def run(self) -> None:
        """Follow, and bury what was deleted long ago, until cancelled."""
        if not self._has_keys:
            return
        async with beside(self.writer.bury()):
            await self._follower.run()

    async def close(self) -> None:
        """Let go of the connection."""
        await self._publisher.close()
