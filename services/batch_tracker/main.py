"""Puts a batch tracker together: its client of Anthropic, its states, its place in the group."""

import asyncio

import structlog

from schemas.ids import new_source_id
from services.batch_tracker.anthropic import Anthropic
from services.batch_tracker.booking import Booker
from services.batch_tracker.config import BatchTrackerConfig
from services.batch_tracker.following import Following
from services.batch_tracker.holdings import Holding
from services.batch_tracker.listing import Listing
from services.batch_tracker.throttle import Throttle
from services.batch_tracker.tracker import Tracker
from services.runtime.consumer import ConsumerConfig
from services.runtime.consumer_service import run_consumer
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher
from services.runtime.service import beside

# Of facts that are looked at together: a chunk of items has 512 KiB, and only its place is kept.
FACTS_BYTES_MAX = 4 * 1024 * 1024

log = structlog.get_logger(__name__)


async def run_batch_tracker(config: BatchTrackerConfig, kafka: KafkaConfig, stopping: asyncio.Event) -> None:
    """Follow batches until `stopping` is set."""
    if not config.upstream.credential:
        log.warning("batches.no_credential", effect="batches are booked when their results are read")
    writer = new_source_id()
    publisher = Publisher(kafka)
    async with Anthropic(config.upstream, Throttle(config.requests_per_minute_max)) as anthropic:
        booker = Booker(anthropic, kafka, publisher, config.bookings_max)
        tracker = Tracker(
            config.upstream.credential,
            lambda partition: Holding(partition, kafka, publisher, writer),
            lambda batch_id, holding: Following(batch_id, holding, anthropic, booker, config),
        )
        listing = Listing(anthropic, publisher, config, lambda: tracker.is_first)
        consumer = ConsumerConfig(
            group_id=config.group_id,
            group_instance_id=config.group_instance_id,
            batch_bytes_max=FACTS_BYTES_MAX,
        )
        try:
            async with beside(tracker.run(), listing.run()):
                await run_consumer(tracker, consumer, kafka, (config.host, config.port), stopping)
        finally:
            await publisher.close()
