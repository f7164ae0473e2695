"""What a request leaves in the log where the gateway itself fails: where and why, and no secret."""

import asyncio

import httpx
from litestar import Litestar
from structlog.testing import capture_logs

from services.edge.admin.routes import admin_router
from tests.unit.edge.registry.shared_log import Edge, SharedLog

MASTER = "sk-master-0123456789"
KEY = "sk-0123456789012345678901"
NEW_KEY = "sk-9876543210987654321098"


def test_a_failure_is_logged_with_its_route_as_a_path_may_hold_a_secret():
    edge = Edge(SharedLog())

    def broken():
        raise RuntimeError("broken")

    async def scenario():
        app = Litestar([admin_router(edge.registry, edge.writer, lambda: MASTER)], logging_config=None)
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://edge", headers={"x-api-key": MASTER}
        )
        async with client:
            await client.post("/key/generate", json={"key": KEY})
            edge.before_publishing = broken
            with capture_logs() as logs:
                return await client.post(f"/key/{KEY}/regenerate", json={"new_key": NEW_KEY}), logs

    answer, logs = asyncio.run(scenario())
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "internal_server_error")
    told = [{name: value for name, value in each.items() if name != "exc_info"} for each in logs]
    assert told == [{"event": "request.failed", "route": "/key/{key}/regenerate", "log_level": "error"}]
    assert [secret for secret in (KEY, NEW_KEY) if secret in repr(logs) + answer.text] == []
