"""A consumer that is stopped beyond its session and wakes late: what it does then changes no total."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence

from services.runtime.consumer import ConsumerConfig, ConsumerLoop
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher
from services.runtime.records import ConsumedRecord, OutgoingRecord, Processed
from tests.integration.kafka.clients import SESSION_MS_MIN, committed, create, read_to_end, run, until_true

TEST_S_MAX = 90.0
WAIT_S_MAX = 40.0

ZOMBIE = """
import asyncio, sys
import structlog
from services.runtime.consumer import ConsumerConfig, ConsumerLoop
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher
from tests.integration.kafka.test_zombie import Copy

class Slow(Copy):
    async def process(self, given):
        print("given", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        return await super().process(given)

async def main(servers, topic, group, session_ms):
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stdout))
    kafka = KafkaConfig(bootstrap_servers=servers)
    config = ConsumerConfig(group_id=group, session_timeout_ms=int(session_ms))
    await ConsumerLoop(Slow(topic), config, kafka, Publisher(kafka)).run(asyncio.Event())

asyncio.run(main(*sys.argv[1:]))
"""


class Copy:
    """Copies each record to another topic, under an id that follows from where it lay."""

    name = "copy"

    def __init__(self, topic: str) -> None:
        self.topics = (topic,)

    async def process(self, given: Sequence[ConsumedRecord]) -> Processed:
        return Processed(
            [
                OutgoingRecord(f"{one.topic}-out", one.key, one.value, (("ce_id", b"%d" % one.offset),))
                for one in given
            ]
        )


def test_a_zombie_that_wakes_late_commits_nothing_and_only_repeats(bootstrap, topic, group):
    kafka = KafkaConfig(bootstrap_servers=bootstrap)
    config = ConsumerConfig(group_id=group, session_timeout_ms=SESSION_MS_MIN)

    async def publish(publisher, start, end):
        await publisher.publish(
            [OutgoingRecord(topic, b"k", b"%d" % number, ()) for number in range(start, end)]
        )

    async def is_committed(offset) -> bool:
        return await committed(bootstrap, group) == {0: offset}

    async def test():
        await create(bootstrap, topic)
        await create(bootstrap, f"{topic}-out")
        publisher, stopping = Publisher(kafka), asyncio.Event()
        await publish(publisher, 0, 10)
        zombie = subprocess.Popen(  # noqa: ASYNC220 - a process to stop and to wake
            [sys.executable, "-c", ZOMBIE, bootstrap, topic, group, str(SESSION_MS_MIN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            await _until_said(zombie, "given")
            zombie.send_signal(signal.SIGSTOP)
            successor = asyncio.create_task(ConsumerLoop(Copy(topic), config, kafka, publisher).run(stopping))
            await until_true(lambda: is_committed(10), WAIT_S_MAX)
            await publish(publisher, 10, 15)
            await until_true(lambda: is_committed(15), WAIT_S_MAX)
            zombie.send_signal(signal.SIGCONT)
            zombie.stdin.write("go on\n")
            zombie.stdin.flush()
            await _until_said(zombie, "consumer.commit_refused")
            assert await committed(bootstrap, group) == {0: 15}
        finally:
            zombie.kill()
            zombie.communicate()
        stopping.set()
        await successor
        await publisher.close()
        out = await read_to_end(bootstrap, f"{topic}-out")
        assert {dict(one.headers)["ce_id"]: one.value for one in out} == {
            b"%d" % number: b"%d" % number for number in range(15)
        }
        assert len(out) == 25  # those of the zombie came twice, under the same ids

    run(test(), TEST_S_MAX)


async def _until_said(process, word) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while word not in (line := await asyncio.to_thread(process.stdout.readline)):
            assert line, "it ended"
