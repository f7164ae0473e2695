"""What a broker will never take: its neighbours go on, and it lies where a person finds it."""

import asyncio
import os
from collections.abc import Sequence

from schemas import codec
from schemas.dead_letters import DeadLetter
from services.runtime.consumer import ConsumerConfig, ConsumerLoop
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher
from services.runtime.records import ConsumedRecord, OutgoingRecord, Processed
from services.runtime.spool.frames import CLOSED
from services.runtime.spool.pump import Pump
from services.runtime.spool.refused import REFUSED_NAME
from services.runtime.spool.store import Spool
from tests.integration.kafka.clients import committed, create, read_to_end, run, until_true

TOPIC_BYTES_MAX = 2_000


def test_of_a_batch_that_is_too_large_only_the_record_that_is_too_large_alone_is_set_aside(
    bootstrap, topic, tmp_path
):
    """All of it fits one batch of the producer, and together it is too large for the topic."""

    async def test():
        await create(bootstrap, topic, max_message_bytes=TOPIC_BYTES_MAX)
        spool, publisher = Spool(tmp_path, 1 << 20), Publisher(KafkaConfig(bootstrap_servers=bootstrap))
        values = [b"%d-" % number + os.urandom(100) for number in range(60)]
        values[41] = os.urandom(2 * TOPIC_BYTES_MAX)
        for number, value in enumerate(values):
            spool.append(f"x{number}", CLOSED, [OutgoingRecord(topic, b"k", value, ())])
        await Pump(spool, publisher).drain()
        await publisher.close()
        found = [one.value for one in await read_to_end(bootstrap, topic)]
        assert list(dict.fromkeys(found)) == values[:41] + values[42:]
        (line,) = (tmp_path / REFUSED_NAME).read_bytes().splitlines()
        letter = codec.decode(DeadLetter, line)
        assert (letter.topic, letter.key, letter.value) == (topic, b"k", values[41])
        assert (letter.stage, letter.error_class) == ("spool", "MessageSizeTooLargeError")
        spool.close()

    run(test())


class Copy:
    """Copies each record to another topic."""

    name = "copy"

    def __init__(self, topic: str) -> None:
        self.topics = (topic,)

    async def process(self, given: Sequence[ConsumedRecord]) -> Processed:
        return Processed([OutgoingRecord(f"{one.topic}-out", one.key, one.value, ()) for one in given])


def test_a_record_whose_outcome_is_too_large_is_a_dead_letter_and_the_rest_goes_on(bootstrap, topic, group):
    kafka = KafkaConfig(bootstrap_servers=bootstrap)

    async def is_done() -> bool:
        return await committed(bootstrap, group) == {0: 20}

    async def test():
        await create(bootstrap, topic)
        await create(bootstrap, f"{topic}.dlq")
        await create(bootstrap, f"{topic}-out", max_message_bytes=TOPIC_BYTES_MAX)
        values = [b"%d" % number for number in range(20)]
        values[13] = os.urandom(2 * TOPIC_BYTES_MAX)
        publisher, stopping = Publisher(kafka), asyncio.Event()
        await publisher.publish([OutgoingRecord(topic, b"k", value, ()) for value in values])
        loop = ConsumerLoop(Copy(topic), ConsumerConfig(group_id=group), kafka, publisher)
        running = asyncio.create_task(loop.run(stopping))
        await until_true(is_done)
        stopping.set()
        await running
        await publisher.close()
        found = [one.value for one in await read_to_end(bootstrap, f"{topic}-out")]
        assert list(dict.fromkeys(found)) == values[:13] + values[14:]
        (letter,) = await read_to_end(bootstrap, f"{topic}.dlq")
        dead = codec.decode(DeadLetter, letter.value)
        assert (dead.stage, dead.error_class, dead.error, dead.offset, dead.value) == (
            "copy",
            "MessageSizeTooLargeError",
            f"Kafka does not take what came of it for {topic}-out",
            13,
            values[13],
        )

    run(test())
