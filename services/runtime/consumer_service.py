"""Puts a consumer process together: a stage, the loop around it, and the probes beside it."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from litestar import Litestar

from services.runtime.consumer import ConsumerConfig, ConsumerLoop
from services.runtime.health import health_router
from services.runtime.http import serve
from services.runtime.kafka import KafkaConfig
from services.runtime.listener import bind
from services.runtime.publisher import Publisher
from services.runtime.records import Stage
from services.runtime.service import beside
from services.runtime.stopping import until_stopped

log = structlog.get_logger(__name__)

PROBES_S_MAX = 1


async def nothing() -> None:
    """Have nothing to do before the group is joined."""


async def run_consumer(
    stage: Stage,
    config: ConsumerConfig,
    kafka: KafkaConfig,
    address: tuple[str, int],
    stopping: asyncio.Event,
    store_is_available: Callable[[], bool] = lambda: True,
    first: Callable[[], Awaitable[None]] = nothing,
) -> None:
    """Run the stage until `stopping` is set; ready once it has joined its group, while its store answers.

    `first` is awaited before the group is joined, with the probes already there.
    """
    listener = bind(*address)
    publisher = Publisher(kafka)
    loop = ConsumerLoop(stage, config, kafka, publisher)
    app = Litestar(
        [health_router(lambda: {"kafka": loop.is_ready, "store": store_is_available()})],
        openapi_config=None,
        logging_config=None,
    )
    log.info("consumer.started", stage=stage.name, group_id=config.group_id, port=address[1])
    try:
        async with beside(serve(app, listener, stopping, PROBES_S_MAX)):
            await until_stopped(first(), stopping, 0.0)
            await loop.run(stopping)
    finally:
        await publisher.close()
    log.info("consumer.stopped", stage=stage.name)
