"""Answers the probes and the scrape that every service offers: liveness, readiness, metrics."""

from collections.abc import Callable, Mapping

from litestar import MediaType, Response, Router, get
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

# Litestar says the charset of every text itself.
_METRICS_TYPE = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")

Readiness = Callable[[], Mapping[str, bool]]
"""Names what a service needs to do its work, and whether it has it."""


def health_router(readiness: Readiness) -> Router:
    """Build the routes; readiness is 200 only while everything it names is there, else 503."""

    @get(["/health/liveliness", "/health/liveness"], media_type=MediaType.JSON)
    async def liveness() -> dict[str, str]:
        return {"status": "alive"}

    @get("/health/readiness", media_type=MediaType.JSON)
    async def ready() -> Response[dict[str, str | dict[str, bool]]]:
        needs = dict(readiness())
        is_ready = all(needs.values())
        return Response(
            {"status": "ready" if is_ready else "not ready", "needs": needs},
            status_code=200 if is_ready else 503,
        )

    @get("/metrics")
    async def scrape() -> Response[bytes]:
        return Response(generate_latest(), media_type=_METRICS_TYPE)

    return Router("/", route_handlers=[liveness, ready, scrape], include_in_schema=False)
