"""What Kafka refused is kept whole beside a running edge, and leaves the file only when Kafka has it."""

import asyncio
import fcntl

import pytest

from services.runtime.errors import ServiceStopped, StartRefused
from services.runtime.publisher import PublishFailed, Refused
from services.runtime.records import OutgoingRecord
from services.runtime.spool import republish as republishing
from services.runtime.spool.refused import (
    DRAFT_NAME,
    REFUSED_LOCK_NAME,
    REFUSED_NAME,
    RefusedHeld,
    lines,
    refused_bytes,
    set_aside,
)
from services.runtime.spool.republish import CHUNK_BYTES, REPUBLISH_LOCK_NAME, Republished, republish

TEST_S_MAX = 30.0


def record(text):
    return OutgoingRecord("t", text.encode(), text.encode(), (("ce_id", text.encode()),))


def put(directory, *texts):
    for text in texts:
        assert set_aside(directory, "spool", Refused(record(text), "TooLarge"))


def held(directory):
    return [None if line.letter is None else line.letter.value.decode() for line in lines(directory)]


class FakePublisher:
    """Takes what it is given but what is still too large, and fails once so many publications are done."""

    def __init__(self, too_large=(), failing_after=None, meanwhile=lambda: None):
        self.too_large = too_large
        self.failing_after = failing_after
        self.meanwhile = meanwhile
        self.rounds = []

    async def publish(self, records):
        if self.failing_after is not None and len(self.rounds) >= self.failing_after:
            raise PublishFailed("Kafka is away")
        self.rounds.append(list(records))
        self.meanwhile()
        return [Refused(each, "TooLarge") for each in records if each.value.decode() in self.too_large]

    @property
    def taken(self):
        return [each.value.decode() for one in self.rounds for each in one]


def republished(directory, publisher, stopping=None):
    async def scene():
        async with asyncio.timeout(TEST_S_MAX):
            return await republish(directory, publisher, stopping or asyncio.Event())

    return asyncio.run(scene())


def lock(path):
    file = path.open("a")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def test_what_kafka_takes_leaves_the_file_with_its_key_value_and_headers(tmp_path):
    put(tmp_path, "a", "b")
    publisher = FakePublisher()
    assert republished(tmp_path, publisher) == Republished(taken=2)
    assert publisher.rounds == [[record("a"), record("b")]]
    assert {path.name for path in tmp_path.iterdir()} == {REFUSED_LOCK_NAME, REPUBLISH_LOCK_NAME}
    assert republished(tmp_path, publisher) == Republished()


def test_what_is_refused_again_and_what_cannot_be_read_stays_in_its_order(tmp_path):
    put(tmp_path, "a", "b")
    with (tmp_path / REFUSED_NAME).open("ab") as file:
        file.write(b"no letter\n")
    put(tmp_path, "c")
    publisher = FakePublisher(too_large=("b",))
    assert republished(tmp_path, publisher) == Republished(taken=2, refused=1, unreadable=1)
    assert (publisher.taken, held(tmp_path)) == (["a", "b", "c"], ["b", None])


def test_a_tombstone_is_a_record_like_any_other(tmp_path):
    gone = OutgoingRecord("t", b"k", None, ())
    set_aside(tmp_path, "spool", Refused(gone, "TooLarge"))
    publisher = FakePublisher()
    assert republished(tmp_path, FakePublisher(failing_after=0)).fault == "Kafka is away"

    async def publish(records):
        publisher.rounds.append(records)
        return []

    publisher.publish = publish
    assert republished(tmp_path, publisher) == Republished(taken=1)
    assert publisher.rounds == [[gone]]


def test_what_an_edge_sets_aside_meanwhile_is_kept(tmp_path):
    put(tmp_path, "a", "b")
    publisher = FakePublisher(too_large=("b",), meanwhile=lambda: put(tmp_path, "new"))
    assert republished(tmp_path, publisher) == Republished(taken=1, refused=1)
    assert held(tmp_path) == ["b", "new"]


def test_an_edge_does_not_wait_for_who_rewrites_the_file_and_a_rewriter_waits_for_the_edge(tmp_path):
    put(tmp_path, "a")
    with lock(tmp_path / REFUSED_LOCK_NAME), pytest.raises(RefusedHeld):
        put(tmp_path, "b")
    assert held(tmp_path) == ["a"]

    async def scene():
        with lock(tmp_path / REFUSED_LOCK_NAME):
            running = asyncio.create_task(republish(tmp_path, FakePublisher(), asyncio.Event()))
            done, _ = await asyncio.wait([running], timeout=3 * republishing.REPLACE_AGAIN_S)
            assert not done
        return await asyncio.wait_for(running, TEST_S_MAX)

    assert asyncio.run(scene()) == Republished(taken=1)
    assert held(tmp_path) == []


def test_records_are_published_a_chunk_at_a_time_and_a_failure_keeps_what_was_not(tmp_path):
    texts = [f"{number}-" + "x" * (CHUNK_BYTES // 2) for number in range(5)]
    put(tmp_path, *texts)
    publisher = FakePublisher(failing_after=2)
    done = republished(tmp_path, publisher)
    sizes = [sum(len(each.value) for each in one) for one in publisher.rounds]
    assert max(sizes) < 2 * CHUNK_BYTES
    taken = len(publisher.taken)
    assert done == Republished(taken=taken, left=5 - taken, fault="Kafka is away")
    assert 0 < taken < 5
    assert held(tmp_path) == texts[taken:]


def test_who_is_stopped_between_two_chunks_keeps_the_rest(tmp_path):
    texts = [f"{number}-" + "x" * CHUNK_BYTES for number in range(3)]
    put(tmp_path, *texts)
    stopping = asyncio.Event()
    publisher = FakePublisher(meanwhile=stopping.set)
    assert republished(tmp_path, publisher, stopping) == Republished(taken=1, left=2)
    assert held(tmp_path) == texts[1:]


def test_who_dies_before_the_file_is_rewritten_leaves_all_of_it(tmp_path):
    """What was published goes again, under the same ids; the draft of the dead is of no account."""
    put(tmp_path, "a", "b")
    before = (tmp_path / REFUSED_NAME).read_bytes()

    class Killed(BaseException):
        pass

    def die():
        raise Killed

    with pytest.raises(Killed):
        republished(tmp_path, FakePublisher(meanwhile=die))
    assert (tmp_path / REFUSED_NAME).read_bytes() == before
    (tmp_path / DRAFT_NAME).write_bytes(b"half a li")
    publisher = FakePublisher()
    assert republished(tmp_path, publisher) == Republished(taken=2)
    assert (publisher.taken, refused_bytes(tmp_path)) == (["a", "b"], 0)


def test_two_at_once_are_refused(tmp_path):
    put(tmp_path, "a")
    with lock(tmp_path / REPUBLISH_LOCK_NAME), pytest.raises(StartRefused) as caught:
        republished(tmp_path, FakePublisher())
    assert str(caught.value) == f"another command publishes what was refused in {tmp_path}."
    assert held(tmp_path) == ["a"]


def test_a_file_that_cannot_be_rewritten_is_said_and_stays(tmp_path, monkeypatch):
    put(tmp_path, "a")
    monkeypatch.setattr(republishing, "REPLACE_S_MAX", 0.05)
    with lock(tmp_path / REFUSED_LOCK_NAME), pytest.raises(ServiceStopped) as caught:
        republished(tmp_path, FakePublisher())
    assert "could not be taken out of the file" in str(caught.value)
    assert held(tmp_path) == ["a"]
