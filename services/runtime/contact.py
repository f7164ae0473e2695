"""Knows for how long Kafka has not answered a consumer, for its readiness; decides nothing else."""

# aiokafka annotates only part of its API.
# pyright: reportUnknownMemberType=false

import asyncio
import time

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from services.runtime import metrics

log = structlog.get_logger(__name__)

# A restart of a broker, an election: nothing that a person or an orchestrator has to act on.
AWAY_S_MAX = 30.0
# So often within that time Kafka is asked, and so long it may take for an answer.
QUESTIONS = 6
ANSWER_S_MAX = 10.0


class Contact:
    """Asks Kafka now and then what topics it has: a consumer with nothing to read hears nothing else."""

    def __init__(self, stage: str, away_s_max: float = AWAY_S_MAX) -> None:
        self._stage = stage
        self._away_s_max = away_s_max
        self._answered_at = time.monotonic()
        self._is_away = False
        metrics.consumer_kafka_away.labels(stage).set(0)

    @property
    def is_near(self) -> bool:
        """Whether Kafka answered within the last AWAY_S_MAX."""
        return time.monotonic() - self._answered_at < self._away_s_max

    async def watch(self, consumer: AIOKafkaConsumer) -> None:
        """Ask until cancelled."""
        while True:
            try:
                async with asyncio.timeout(ANSWER_S_MAX):
                    await consumer.topics()
            except (KafkaError, OSError, TimeoutError) as exc:
                self._unanswered(exc)
            else:
                self._answered()
            await asyncio.sleep(self._away_s_max / QUESTIONS)

    def _answered(self) -> None:
        now = time.monotonic()
        if self._is_away:
            log.info("consumer.kafka_came_back", stage=self._stage, away_s=round(now - self._answered_at))
        self._answered_at, self._is_away = now, False
        metrics.consumer_kafka_away.labels(self._stage).set(0)

    def _unanswered(self, error: Exception) -> None:
        if self._is_away or self.is_near:
            return
        self._is_away = True
        metrics.consumer_kafka_away.labels(self._stage).set(1)
        log.warning("consumer.kafka_went_away", stage=self._stage, error=type(error).__name__)
