"""The pump publishes in order of append, forgets what is acknowledged, and survives what fails in between."""

import asyncio
import os

from structlog.testing import capture_logs

from schemas import codec
from schemas.dead_letters import DeadLetter
from services.runtime.publisher import PublishFailed, Refused
from services.runtime.records import OutgoingRecord
from services.runtime.spool.frames import CLOSED, HEAD_BYTES, OPENED, STARTED
from services.runtime.spool.pump import ENTRIES_PER_ROUND_MAX, Pump
from services.runtime.spool.refused import REFUSED_BYTES_MAX, REFUSED_NAME
from services.runtime.spool.segment import segment_paths
from services.runtime.spool.store import Spool

TEST_S_MAX = 10.0


def record(text):
    return OutgoingRecord("t", None, text.encode(), ())


class FakePublisher:
    """Acknowledges what it is given, but for the first `failures` publications, and what is too large."""

    def __init__(self, failures=0, too_large=()):
        self.failures = failures
        self.too_large = too_large
        self.rounds = []
        self.published = asyncio.Event()

    async def publish(self, records):
        if self.failures:
            self.failures -= 1
            raise PublishFailed("Kafka is away")
        self.rounds.append([each.value.decode() for each in records])
        self.published.set()
        return [Refused(each, "TooLarge") for each in records if each.value in self.too_large]

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
        assert (pump.is_idle, spool.entries, spool.unclosed()) == (True, 0, ["b"])
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
        assert spool.entries == 0
        spool.close()
        assert sum(path.stat().st_size for path in segment_paths(tmp_path)) == HEAD_BYTES

    run(scene())


def test_what_kafka_did_not_acknowledge_stays_and_is_published_again(tmp_path):
    async def scene():
        spool, publisher = Spool(tmp_path, 1 << 20), FakePublisher(failures=2)
        spool.append("a", CLOSED, [record("a")])
        await Pump(spool, publisher).drain()
        assert (publisher.rounds, spool.entries) == ([["a"]], 0)
        spool.close()

    run(scene())


def test_a_disk_that_cannot_be_read_for_a_while_ends_nothing(tmp_path):
    async def scene():
        spool, publisher = Spool(tmp_path, 1 << 20), FakePublisher()
        spool.append("a", CLOSED, [record("a")])
        (path,) = segment_paths(tmp_path)
        path.rename(tmp_path / "away")
        with capture_logs() as logged:
            draining = asyncio.create_task(Pump(spool, publisher).drain())
            while not logged:  # noqa: ASYNC110 - the log is a list
                await asyncio.sleep(0)
            (tmp_path / "away").rename(path)
            await draining
        assert [each["event"] for each in logged] == ["spool.publish_failed", "spool.publish_recovered"]
        assert (publisher.rounds, spool.entries) == ([["a"]], 0)
        spool.close()

    run(scene())


def test_what_kafka_will_never_take_is_set_aside_whole_and_its_neighbours_go_on(tmp_path):
    async def scene():
        spool, publisher = Spool(tmp_path, 1 << 20), FakePublisher(too_large=(b"b",))
        for text in "abc":
            spool.append(text, CLOSED, [record(text)])
        with capture_logs() as logged:
            await Pump(spool, publisher).drain()
        assert (publisher.rounds, spool.entries) == ([["a", "b", "c"]], 0)
        said = {"topic": "t", "value_bytes": 1, "error_class": "TooLarge", "directory": str(tmp_path)}
        assert logged == [{"event": "spool.record_refused", "log_level": "error", "is_kept": True, **said}]
        (line,) = (tmp_path / REFUSED_NAME).read_bytes().splitlines()
        letter = codec.decode(DeadLetter, line)
        assert (letter.topic, letter.value, letter.stage, letter.error_class) == (
            "t",
            b"b",
            "spool",
            "TooLarge",
        )
        spool.close()

    run(scene())


def test_what_is_set_aside_has_a_limit_and_what_is_beyond_it_is_said(tmp_path):
    async def scene():
        spool, publisher = Spool(tmp_path, 1 << 20), FakePublisher(too_large=(b"b",))
        (tmp_path / REFUSED_NAME).touch()
        os.truncate(tmp_path / REFUSED_NAME, REFUSED_BYTES_MAX)  # sparse
        spool.append("b", CLOSED, [record("b")])
        with capture_logs() as logged:
            await Pump(spool, publisher).drain()
        assert [(each["event"], each["is_kept"]) for each in logged] == [("spool.record_refused", False)]
        assert (spool.entries, (tmp_path / REFUSED_NAME).stat().st_size) == (0, REFUSED_BYTES_MAX)
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


def test_a_restart_publishes_only_what_was_not_acknowledged(tmp_path):
    async def scene():
        dead = Spool(tmp_path, 1 << 20)
        dead.append("a", OPENED, [record("a opened")])
        await Pump(dead, FakePublisher()).drain()
        dead.append("b", CLOSED, [record("b")])
        dead.close()
        spool, publisher = Spool(tmp_path, 1 << 20), FakePublisher()
        spool.append("a", CLOSED, [record("a closed")])
        await Pump(spool, publisher).drain()
        assert (publisher.rounds, spool.entries) == ([["b", "a closed"]], 0)
        spool.close()

    run(scene())
