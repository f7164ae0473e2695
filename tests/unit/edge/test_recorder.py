"""What becomes of an exchange that cannot be recorded, and how long the last bytes wait for the platter."""

import asyncio
import resource
from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.edge.config import SpoolConfig
from services.edge.events import Ending
from services.edge.orphans import adopt_the_dead
from services.edge.recorder import CannotRecord, Recorder
from services.runtime.kafka import KafkaConfig
from services.runtime.records import OutgoingRecord
from services.runtime.spool.frames import ADDED, CLOSED, OPENED
from services.runtime.spool.store import Spool
from services.runtime.spool.sync import GroupSync
from tests.unit.edge.exchanges import EXCHANGE, READING, numbered
from tests.unit.edge.virtual_time import seconds_of

ENDING = Ending(outcome="completed", finished_at=datetime(2026, 11, 22, tzinfo=UTC), http_status=200)
WAIT_S_MAX = 20


class Bell:
    """A pump that is only woken."""

    def __init__(self):
        self.rung = 0

    def wake(self):
        self.rung += 1


def value(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0


def stages(spool):
    return [(each.exchange, each.stage) for each in spool.read(0, 100)]


def full_spool(directory):
    spool = Spool(directory, 100)
    spool.append("old", OPENED, [])
    spool.append("old", CLOSED, [])
    assert spool.is_full
    return spool


def test_a_full_spool_refuses_what_begins(tmp_path):
    spool = full_spool(tmp_path)
    recorder = Recorder(spool, Bell())
    with pytest.raises(CannotRecord):
        recorder.open(EXCHANGE)
    assert (recorder.is_accepting, recorder.shed, len(stages(spool))) == (False, 0, 2)
    spool.close()


def test_a_full_spool_that_sheds_serves_without_a_record_and_counts(tmp_path):
    spool, before = full_spool(tmp_path), value("edge_shed_total")
    bell = Bell()
    recorder = Recorder(spool, bell, "shed")
    assert recorder.is_accepting
    with capture_logs() as logged:
        for number in range(3):
            recorder.open(numbered(number))
            recorder.start(numbered(number), READING)
            recorder.close(numbered(number), READING, ENDING)
    assert [each["event"] for each in logged] == ["exchange.shed"]  # a line a second, whatever comes
    assert (recorder.shed, value("edge_shed_total") - before, bell.rung, len(stages(spool))) == (3, 3, 0, 2)
    spool.forget(2)
    recorder.open(EXCHANGE)
    recorder.close(EXCHANGE, READING, ENDING)
    assert [stage for _, stage in stages(spool)[-2:]] == [OPENED, CLOSED]
    spool.close()


@pytest.mark.parametrize("when_full", ["refuse", "shed"])
def test_a_disk_without_room_is_as_a_full_spool_and_never_fails_what_is_open(tmp_path, when_full):
    spool = Spool(tmp_path, 1 << 20)
    recorder = Recorder(spool, Bell(), when_full)
    recorder.open(numbered(1))
    lost = value("edge_records_lost_total", stage="closed")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (spool.bytes + 10, limits[1]))
    try:
        with capture_logs():
            recorder.close(numbered(1), READING, ENDING)
            if when_full == "refuse":
                with pytest.raises(CannotRecord):
                    recorder.open(numbered(2))
            else:
                recorder.open(numbered(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert value("edge_records_lost_total", stage="closed") == lost + 1
    assert (recorder.shed, stages(spool)) == (int(when_full == "shed"), [(numbered(1).request_id, OPENED)])
    spool.close()


def test_what_is_added_stands_between_beginning_and_end_and_is_shed_with_its_exchange(tmp_path):
    spool = Spool(tmp_path / "0000", 1 << 20)
    recorder = Recorder(spool, Bell())
    recorder.open(EXCHANGE)
    recorder.add(EXCHANGE, [OutgoingRecord("t", None, b"{}", ())])
    recorder.add(EXCHANGE, [])
    recorder.close(EXCHANGE, READING, ENDING)
    assert [stage for _, stage in stages(spool)] == [OPENED, ADDED, CLOSED]
    spool.close()
    spool = full_spool(tmp_path / "0001")
    recorder = Recorder(spool, Bell(), "shed")
    with capture_logs():
        recorder.open(EXCHANGE)
    recorder.add(EXCHANGE, [OutgoingRecord("t", None, b"{}", ())])
    assert len(stages(spool)) == 2
    spool.close()


def test_without_fsync_nothing_waits(tmp_path):
    spool = Spool(tmp_path, 1 << 20)
    waiting = Recorder(spool, Bell()).synced()
    with pytest.raises(StopIteration):
        waiting.send(None)
    spool.close()


def test_those_who_wait_at_once_share_an_fsync_and_later_ones_get_their_own(tmp_path):
    spool = Spool(tmp_path, 1 << 20, fsync=True)
    asked = []
    unsynced = spool.unsynced
    spool.unsynced = lambda: asked.append(spool.appended) or unsynced()

    async def scene():
        sync = GroupSync(spool)
        for number in range(10):
            spool.append(str(number), CLOSED, [])
        await asyncio.gather(*(sync.synced() for _ in range(10)))
        assert asked == [10]
        await sync.synced()
        assert asked == [10]
        spool.append("another", CLOSED, [])
        await sync.synced()
        assert asked == [10, 11]
        sync.close()

    asyncio.run(asyncio.wait_for(scene(), WAIT_S_MAX))
    spool.close()


def test_files_that_were_left_behind_are_synced_as_well_and_closed(tmp_path):
    spool = Spool(tmp_path, 4_000, fsync=True)
    for number in range(100):
        spool.append(str(number), CLOSED, [])

    async def scene():
        sync = GroupSync(spool)
        spool.append("last", CLOSED, [])
        await sync.synced()
        sync.close()

    asyncio.run(asyncio.wait_for(scene(), WAIT_S_MAX))
    assert spool._retired == []
    spool.close()


class HangingSync(GroupSync):
    """A disk that lets go when it is told to."""

    def __init__(self, spool):
        super().__init__(spool)
        self.goes_on = asyncio.Event()

    async def synced(self):
        await self.goes_on.wait()


def test_a_disk_that_hangs_is_waited_for_50_ms_and_counted(tmp_path):
    spool = Spool(tmp_path, 1 << 20, fsync=True)

    async def scene():
        await Recorder(spool, Bell(), "refuse", HangingSync(spool)).synced()

    slow = value("edge_spool_slow_total")
    assert seconds_of(scene()) == pytest.approx(0.05)
    assert value("edge_spool_slow_total") == slow + 1
    spool.close()


def test_a_disk_is_waited_for_as_long_as_it_may_take_and_no_longer_than_it_takes(tmp_path):
    spool = Spool(tmp_path, 1 << 20, fsync=True)

    async def scene():
        sync = HangingSync(spool)
        recorder = Recorder(spool, Bell(), "refuse", sync, wait_ms_max=2000)
        asyncio.get_running_loop().call_later(1.0, sync.goes_on.set)
        await recorder.synced()

    slow = value("edge_spool_slow_total")
    assert seconds_of(scene()) == pytest.approx(1.0)
    assert value("edge_spool_slow_total") == slow
    spool.close()


@pytest.mark.parametrize(("wait_ms_max", "counted"), [(0, 1), (60_000, 0)])
def test_an_append_that_takes_longer_than_the_last_bytes_should_wait_is_counted(
    wait_ms_max, counted, tmp_path
):
    spool = Spool(tmp_path, 1 << 20)
    recorder = Recorder(spool, Bell(), wait_ms_max=wait_ms_max)
    recorder.open(EXCHANGE)
    slow = value("edge_spool_slow_total")
    recorder.close(EXCHANGE, READING, ENDING)
    assert value("edge_spool_slow_total") == slow + counted
    spool.close()


def test_a_disk_that_fails_to_sync_fails_no_exchange(tmp_path):
    spool = Spool(tmp_path, 1 << 20, fsync=True)

    class FailingSync(GroupSync):
        async def synced(self):
            raise OSError(5, "Input/output error")

    async def scene():
        failed = value("spool_failures_total", what="sync")
        with capture_logs() as logged:
            await Recorder(spool, Bell(), "refuse", FailingSync(spool)).synced()
        assert [each["event"] for each in logged] == ["spool.sync_failed"]
        assert value("spool_failures_total", what="sync") == failed + 1

    asyncio.run(asyncio.wait_for(scene(), WAIT_S_MAX))
    spool.close()


def test_a_sibling_that_dies_later_is_adopted_at_the_second_look(tmp_path):
    sibling = Spool(tmp_path / "0001", 1 << 20)
    Recorder(sibling, Bell()).open(EXCHANGE)
    nowhere = KafkaConfig(bootstrap_servers="127.0.0.1:1")

    async def scene():
        config = SpoolConfig(directory=str(tmp_path))
        with capture_logs() as logged:
            looking = asyncio.create_task(adopt_the_dead(config, nowhere, look_s=0.01))
            sibling.close()
            while len(logged) < 2:  # noqa: ASYNC110 - found, and then its publishing failed
                await asyncio.sleep(0.01)
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        (found,) = [each for each in logged if each["event"] == "spool.found_abandoned"]
        assert (found["entries"], found["orphans"]) == (2, 1)

    asyncio.run(asyncio.wait_for(scene(), WAIT_S_MAX))
    left = Spool(tmp_path / "0001", 1 << 20)  # given back, with what Kafka did not take
    assert (left.entries, left.unclosed()) == (2, [])
    left.close()
