"""An edge in a thread of its own, curl in a shell that knows its address, and all that it publishes."""

import asyncio
import concurrent.futures
import json
import os
import subprocess
import threading
from typing import NamedTuple

from schemas import codec, topics
from schemas.batches import BatchCreated, BatchFact
from schemas.usage import UsageRecorded
from tests.integration.edge.registry_stack import MASTER, WAIT_S_MAX, stack
from tests.integration.runtime import brokers

# What is typed stays as it is typed: curl takes these from a file of its own.
CURL_SETTINGS = f"""
silent
show-error
max-time = {WAIT_S_MAX:.0f}
write-out = "\\n%{{http_code}} %header{{request-id}}"
"""


class Answer(NamedTuple):
    """What curl printed: the body, and what its write-out adds."""

    status: int
    request_id: str
    body: dict


class Gateway:
    """An edge before the simulated API in a thread of its own, and all that it publishes."""

    def __init__(self, directory):
        self._directory = directory
        self._curl_home = directory / "curl"
        self._curl_home.mkdir()
        (self._curl_home / ".curlrc").write_text(CURL_SETTINGS)
        self._opened = concurrent.futures.Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._seen = []

    async def _serve(self):
        try:
            async with stack(self._directory) as running:
                kafka = running.kafka.bootstrap_servers
                async with brokers.consumer(kafka, topics.USAGE, topics.BATCH_FACTS) as self._consumer:
                    self.url = str(running.edges[0].base_url).rstrip("/")
                    self.upstream = running.upstream
                    self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
                    self._opened.set_result(None)
                    await self._closing.wait()
        except BaseException as exc:
            if self._opened.done():
                raise
            self._opened.set_exception(exc)

    def __enter__(self):
        self._thread.start()
        self._opened.result(WAIT_S_MAX)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(WAIT_S_MAX)
        assert not self._thread.is_alive()

    def curl(self, typed, key):
        """Run a command in a shell that knows the key, the master key and the address."""
        done = subprocess.run(
            ["/bin/sh", "-c", typed],
            env={
                "PATH": os.environ["PATH"],
                "CURL_HOME": str(self._curl_home),
                "PROXY_BASE_URL": self.url,
                "LITELLM_API_KEY": key,
                "LITELLM_MASTER_KEY": MASTER,
            },
            capture_output=True,
            text=True,
            timeout=2 * WAIT_S_MAX,
        )
        assert (done.returncode, done.stderr) == (0, ""), typed
        body, _, told = done.stdout.rpartition("\n")
        status, _, request_id = told.partition(" ")
        return Answer(int(status), request_id, json.loads(body))

    def used(self, request_id):
        """The usage event of the exchange that answered with this request id, Anthropic's or our own."""
        return self._found(
            lambda each: (
                isinstance(each, UsageRecorded) and request_id in (each.upstream_request_id, each.request_id)
            )
        )

    def created(self, batch_id):
        """What was said of a batch's creation."""
        found = self._found(
            lambda each: (
                isinstance(each, BatchFact)
                and each.batch_id == batch_id
                and isinstance(each.fact, BatchCreated)
            )
        )
        return found.fact

    @property
    def batches(self):
        """The batches told of so far."""
        return {each.batch_id for each in self._seen if isinstance(each, BatchFact)}

    def _found(self, is_wanted):
        asked = asyncio.run_coroutine_threadsafe(self._until_seen(is_wanted), self._loop)
        return asked.result(2 * WAIT_S_MAX)

    async def _until_seen(self, is_wanted):
        structs = {topics.USAGE: UsageRecorded, topics.BATCH_FACTS: BatchFact}
        async with asyncio.timeout(WAIT_S_MAX):
            while not (wanted := [each for each in self._seen if is_wanted(each)]):
                for record in await brokers.take(self._consumer, 1):
                    self._seen.append(codec.decode(structs[record.topic], record.value))
        (one,) = wanted
        return one
