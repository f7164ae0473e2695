"""How much of all requests' bodies is held at once."""

import asyncio

from services.local.clickhouse.access import Account
from services.local.clickhouse.errors import QueryFailed
from services.local.clickhouse.http import HttpInterface

SCOPE = {"type": "http", "path": "/", "method": "POST", "query_string": b"", "headers": []}


class IdleEngine:
    """An engine that answers every statement with the same error."""

    timezone = "UTC"

    def execute(self, _job):
        raise QueryFailed(1, "Code: 1. DB::Exception: reached (X)")

    def kill_all(self):
        """Nothing runs."""


def test_a_body_too_many_is_refused_with_503_and_room_is_made_by_those_that_end():
    async def post(interface, pieces, has_more):
        """Send a body piece by piece; give the status and the code of the answer."""
        sent = []

        async def receive():
            piece = await pieces.get()
            pieces.task_done()
            return {"type": "http.request", "body": piece, "more_body": has_more or not pieces.empty()}

        async def send(message):
            sent.append(message)

        await interface(SCOPE, receive, send)
        headers = dict(sent[0]["headers"])
        return sent[0]["status"], headers[b"x-clickhouse-exception-code"]

    def filled(*pieces):
        queue = asyncio.Queue()
        for piece in pieces:
            queue.put_nowait(piece)
        return queue

    async def work():
        interface = HttpInterface(IdleEngine(), Account(), held_body_bytes_max=100)
        waiting = filled(b"x" * 60)
        first = asyncio.create_task(post(interface, waiting, has_more=True))
        await waiting.join()
        second = await post(interface, filled(b"y" * 30, b"y" * 30), has_more=False)
        third = await post(interface, filled(b"z" * 40), has_more=False)
        waiting.put_nowait(b"x" * 41)
        told = second, third, await first
        fourth = await post(interface, filled(b"z" * 100), has_more=False)
        interface.stop(1)
        return *told, fourth

    refused, ran = (503, b"202"), (500, b"1")
    assert asyncio.run(work()) == (refused, ran, refused, ran)
