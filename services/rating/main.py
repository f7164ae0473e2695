"""Puts a rating process together: the price book, the stage, its place in the group."""

import asyncio

import structlog

from services.rating.book_file import load
from services.rating.config import RatingConfig
from services.rating.handler import RatingStage
from services.runtime.consumer import ConsumerConfig
from services.runtime.consumer_service import run_consumer
from services.runtime.kafka import KafkaConfig

log = structlog.get_logger(__name__)


async def run_rating(config: RatingConfig, kafka: KafkaConfig, stopping: asyncio.Event) -> None:
    """Price usage until `stopping` is set."""
    book = load(config.prices)
    log.info("rating.book_loaded", price_book=book.label, book_seq=book.book_seq)
    consumer = ConsumerConfig(group_id=config.group_id, group_instance_id=config.group_instance_id)
    await run_consumer(RatingStage(book), consumer, kafka, (config.host, config.port), stopping)
