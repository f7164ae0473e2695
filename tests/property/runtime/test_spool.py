"""Whatever happens to a spool, in whatever order: what was appended and not forgotten is there, in order."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.runtime.records import OutgoingRecord
from services.runtime.spool.frames import ADDED, CLOSED, HEAD_BYTES, OPENED, STARTED
from services.runtime.spool.segment import SpoolFailed, segment_paths
from services.runtime.spool.store import Entry, Spool, SpoolFull

BYTES_MAX = 6_000  # some ten entries a file, so that files come and go
RUN_S_MAX = 60
KILLS = 6


def record(size):
    return OutgoingRecord("t", b"k", b"v" * size, ())


class SpoolMachine(RuleBasedStateMachine):
    """A spool beside a model of it: a list of entries, how far Kafka is, and who is open."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "0000"
        self.spool = Spool(self.path, BYTES_MAX)
        self.source_id = self.spool.source_id
        self.entries: list[Entry] = []
        self.acknowledged = 0
        self.open: dict[str, list[Entry]] = {}
        self.exchanges = 0

    def teardown(self):
        self.spool.close()
        self.directory.cleanup()

    def append(self, exchange, stage, size):
        entry = Entry(len(self.entries) + 1, exchange, stage, (record(size),))
        assert self.spool.append(exchange, stage, entry.records) == entry.seq
        self.entries.append(entry)
        if stage == CLOSED:
            self.open.pop(exchange, None)
        elif stage != ADDED:
            self.open.setdefault(exchange, []).append(entry)

    @rule(size=st.integers(0, 700))
    def begins(self, size):
        self.exchanges += 1
        if self.spool.is_full:
            try:
                self.spool.append(f"x{self.exchanges}", OPENED, [record(size)])
            except SpoolFull:
                return
            raise AssertionError("a full spool took another exchange")
        self.append(f"x{self.exchanges}", OPENED, size)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), stage=st.sampled_from((STARTED, ADDED, CLOSED, CLOSED)), size=st.integers(0, 700))
    def goes_on(self, data, stage, size):
        self.append(data.draw(st.sampled_from(sorted(self.open))), stage, size)

    @rule(size=st.integers(0, 700))
    def is_added_to_what_is_not_there(self, size):
        self.append("nothing", ADDED, size)

    @rule(share=st.floats(0, 1))
    def is_acknowledged(self, share):
        self.acknowledged += round((len(self.entries) - self.acknowledged) * share)
        self.spool.forget(self.acknowledged)

    @rule()
    def is_opened_again(self):
        self.spool.close()
        self.reopen()

    @rule()
    def is_killed(self):
        self.abandon()
        self.reopen()

    @rule(data=st.data())
    def is_killed_within_an_append(self, data):
        """The append never returned, so that nobody may expect the entry."""
        newest = self.spool._segments[-1]
        before = newest.size
        self.spool.append("torn", CLOSED, [record(50)])
        file = self.spool._segments[-1]
        begins_at = before if file is newest else HEAD_BYTES
        self.abandon()
        size = file.path.stat().st_size
        os.truncate(file.path, data.draw(st.integers(begins_at, size - 1)))
        self.reopen()

    @rule(room=st.integers(0, 40))
    def finds_the_disk_full(self, room):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        newest = self.spool._segments[-1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (newest.size + room, hard))
        try:
            self.spool.append("full", CLOSED, [record(4_000)])
        except SpoolFailed:
            pass
        else:
            raise AssertionError("there was no room")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def abandon(self):
        os.close(self.spool._lock)
        os.close(self.spool._file)

    def reopen(self):
        self.spool = Spool(self.path, BYTES_MAX)

    @invariant()
    def holds_what_the_model_holds(self):
        spool = self.spool
        assert spool.read(spool.acknowledged, 10_000) == self.entries[spool.acknowledged :]
        assert (spool.appended, spool.source_id) == (len(self.entries), self.source_id)
        assert spool.acknowledged == self.acknowledged
        assert {each: spool.entries_of(each) for each in spool.unclosed()} == self.open
        assert spool.bytes == sum(path.stat().st_size for path in segment_paths(self.path))


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

WRITER = """
import sys
from pathlib import Path
from services.runtime.records import OutgoingRecord
from services.runtime.spool.store import Spool
spool = Spool(Path(sys.argv[1]), 1 << 30)
number = spool.appended
while True:
    number += 1
    value = b"%d" % number + bytes(3000)
    spool.append(f"x{number}", 3, [OutgoingRecord("t", None, value, ())])
    print(number, flush=True)
    if number % 50 == 0:
        spool.forget(number - 20)
"""


def test_a_process_that_is_killed_at_any_time_loses_nothing_that_it_was_told_is_there(tmp_path):
    for kill in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            said = 0
            for line in process.stdout:
                said = int(line)
                if said % 700 == 100 * kill + 37:
                    break
            process.send_signal(signal.SIGKILL)
            said = max([said, *(int(line) for line in process.stdout if line.endswith("\n"))])
            process.wait(RUN_S_MAX)
        spool = Spool(tmp_path, 1 << 30)
        found = []
        while spool.acknowledged + len(found) < spool.appended:
            found += spool.read(spool.acknowledged + len(found), 500)
        # One more may be there: killed between the append and its announcement.
        assert said <= spool.appended <= said + 1
        assert [int(entry.records[0].value[:-3000]) for entry in found] == list(
            range(spool.acknowledged + 1, spool.appended + 1)
        )
        assert spool.appended - spool.acknowledged <= 70 + 1
        spool.close()
