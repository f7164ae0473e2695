"""The pump publishes in order of append, forgets what is acknowledged, and survives what fails in between."""

import asyncio
import sqlite3

from services.runtime.publisher import PublishFailed
from services.runtime.records import OutgoingRecord
from services.runtime.spool.pump import ENTRIES_PER_ROUND_MAX, Pump
from services.runtime.spool.store import CLOSED, DATABASE_NAME, OPENED, STARTED, Spool

TEST_S_MAX = 10.0


def record(text):
    return OutgoingRecord("t", None, text.encode(), ())


class FakePublisher:
    """Acknowledges what it is given, but for the first `failures` publications."""

    def __init__(self, failures=0):
        self.failures = failures
        self.rounds = []
        self.published = asyncio.Event()

    async def publish(self, records):
        if self.failures:
            self.failures -= 1
            raise PublishFailed("Kafka is away")
        self.rounds.append([each.value.decode() for each in records])
        self.published.set()

    async def close(self):
        pass


def run(scene):
    asyncio.run(asyncio.wait_for(scene, TEST_S_MAX))


def test_records_are_published_in_order_without_those_that_are_only_for_a_crash(tmp_path):
    async def scene():
        spool, publisher = Spool(tmp_path, 1 << 20), FakePublisher()
        pump = Pump(spool, publisher)
        spool.append("a", OPENED, [record("a opened")])
        spool.append("b", OPENED, [record("b opened")])
        spool.append("a", STARTED, [record("a started")])
        spool.append("a", CLOSED, [record("a closed"), record("a used")])
        assert not pump.is_idle
        await pump.drain()
        assert publisher.rounds == [["a opened", "b opened", "a closed", "a used"]]
        assert (pump.is_idle, spool.entries, spool.unclosed()) == (True, 1, ["b"])
        spool.append("b", CLOSED, [record("b closed")])
        await pump.drain()
        assert (publisher.rounds[1:], spool.entries) == ([["b closed"]], 0)
        spool.close()

    run(scene())


def test_a_long_spool_is_published_in_rounds(tmp_path):
    async def scene():
        spool, publisher = Spool(tmp_path, 1 << 20), FakePublisher()
        count = 2 * ENTRIES_PER_ROUND_MAX + 1
        for number in range(count):
            spool.append(f"x{number}", CLOSED, [record(str(number))])
        await Pump(spool, publisher).drain()
        rounds = publisher.rounds
        assert [len(each) for each in rounds] == [ENTRIES_PER_ROUND_MAX, ENTRIES_PER_ROUND_MAX, 1]
        assert [value for each in rounds for value in each] == [str(number) for number in range(count)]
        assert (spool.entries, spool.bytes) == (0, 0)
        spool.close()

    run(scene())


def test_what_kafka_did_not_acknowledge_stays_and_is_published_again(tmp_path):
    async def scene():
        spool, publisher = Spool(tmp_path, 1 << 20), FakePublisher(failures=2)
        spool.append("a", CLOSED, [record("a")])
        await Pump(spool, publisher).drain()
        assert (publisher.rounds, spool.entries) == ([["a"]], 0)
        spool.close()

    run(scene())


def test_a_disk_that_fails_to_delete_ends_nothing(tmp_path):
    async def scene():
        spool, publisher = Spool(tmp_path, 1 << 20), FakePublisher()
        spool.append("a", CLOSED, [record("a")])
        other = sqlite3.connect(tmp_path / DATABASE_NAME)
        other.execute("CREATE TRIGGER broken BEFORE DELETE ON entries BEGIN SELECT RAISE(FAIL, 'disk'); END")
        other.commit()
        draining = asyncio.create_task(Pump(spool, publisher).drain())
        await publisher.published.wait()
        other.execute("DROP TRIGGER broken")
        other.commit()
        other.close()
        await draining
        # How often it went out depends on when the disk came back; each time it was the same record.
        assert (set(map(tuple, publisher.rounds)), spool.entries) == ({("a",)}, 0)
        spool.close()

    run(scene())


def test_a_pump_that_runs_is_woken_by_an_append(tmp_path):
    async def scene():
        spool, publisher = Spool(tmp_path, 1 << 20), FakePublisher()
        pump = Pump(spool, publisher)
        running = asyncio.create_task(pump.run())
        for text in ("a", "b"):
            publisher.published.clear()
            spool.append(text, CLOSED, [record(text)])
            pump.wake()
            await publisher.published.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert publisher.rounds == [["a"], ["b"]]
        spool.close()

    run(scene())


def test_a_spool_that_was_left_behind_is_published_from_its_beginning(tmp_path):
    async def scene():
        dead = Spool(tmp_path, 1 << 20)
        dead.append("a", OPENED, [record("a opened")])
        await Pump(dead, FakePublisher()).drain()
        dead.close()
        spool, publisher = Spool(tmp_path, 1 << 20), FakePublisher()
        spool.append("a", CLOSED, [record("a closed")])
        await Pump(spool, publisher).drain()
        assert (publisher.rounds, spool.entries) == ([["a opened", "a closed"]], 0)
        spool.close()

    run(scene())
