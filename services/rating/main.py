"""Puts a rating process together: the price book, its publication, the stage, its place in the group."""

import asyncio
from datetime import UTC, datetime

import structlog

from services.rating.book.file import load
from services.rating.book.log import announced
from services.rating.config import RatingConfig
from services.rating.end_users import EndUserMetrics
from services.rating.handler import RatingStage
from services.runtime.consumer import ConsumerConfig
from services.runtime.consumer_service import run_consumer
from services.runtime.kafka import KafkaConfig

log = structlog.get_logger(__name__)


async def run_rating(config: RatingConfig, kafka: KafkaConfig, stopping: asyncio.Event) -> None:
    """Price usage until `stopping` is set."""
    book = load(config.prices, config.overrides)
    log.info("rating.book_loaded", price_book=book.label, book_seq=book.book_seq)
    consumer = ConsumerConfig(group_id=config.group_id, group_instance_id=config.group_instance_id)
    stage = RatingStage(book, EndUserMetrics() if config.shows_end_users else None)

    async def announce() -> None:
        stage.begin((await announced(book, kafka, lambda: datetime.now(UTC))).published_at)

    address = (config.host, config.port)
    await run_consumer(stage, consumer, kafka, address, stopping, first=announce)
