import struct
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from services.local.kafka import wire
from services.local.kafka.configs import TopicConfig
from services.local.kafka.coordination_messages import (
    GroupProtocol,
    HeartbeatRequest,
    JoinGroupRequest,
    MemberAssignment,
    SyncGroupRequest,
)
from services.local.kafka.errors import ErrorCode, MalformedFrame, Refused, UnsupportedRequest
from services.local.kafka.files import SegmentFiles
from services.local.kafka.groups import Group, GroupState
from services.local.kafka.log import PartitionLog
from services.local.kafka.members import Client
from tests.unit.local_kafka.batches import NOW_MS, batch
from tests.unit.local_kafka.test_log import read_all

VALUES = st.lists(st.binary(max_size=400), min_size=1, max_size=4)


@given(
    batches=st.lists(VALUES, min_size=1, max_size=12),
    segment_bytes=st.integers(100, 2_000),
    cut=st.integers(0, 3_000),
    flip=st.one_of(st.none(), st.integers(0, 3_000)),
)
@settings(max_examples=60, deadline=None)
def test_a_damaged_end_leaves_a_prefix_of_what_was_written(batches, segment_bytes, cut, flip):
    with tempfile.TemporaryDirectory() as name:
        config = TopicConfig(segment_bytes=segment_bytes)
        log = PartitionLog(Path(name), config, SegmentFiles())
        for values in batches:
            log.append(batch(*values), NOW_MS)
        written = read_all(log)
        last = log.segments[-1]
        data = bytearray(last.path.read_bytes())
        if flip is not None:
            data[flip % len(data)] ^= 0x10
        last.path.write_bytes(data[: max(len(data) - cut, 0)])

        reopened = PartitionLog(Path(name), config, SegmentFiles())

        found = read_all(reopened)
        assert found == written[: len(found)]
        assert len(found) >= last.base_offset
        following = reopened.append(batch(b"next"), NOW_MS).base_offset
        assert read_all(reopened) == [*found, (following, b"next")]


@given(
    key=st.sampled_from([item.api_key for item in wire.offered_ranges()]),
    version=st.integers(-1, 12),
    body=st.binary(max_size=80),
)
@settings(max_examples=400, deadline=None)
def test_any_body_is_decoded_or_refused(key, version, body):
    try:
        decoded = wire.decode_request(struct.pack(">hhih", key, version, 1, -1) + body)
    except (MalformedFrame, UnsupportedRequest):
        return
    assert (decoded.api_key, decoded.correlation_id) == (key, 1)


STEPS = st.one_of(
    st.tuples(st.just("join"), st.integers(0, 4)),
    st.tuples(st.just("sync"), st.integers(0, 4)),
    st.tuples(st.just("heartbeat"), st.integers(0, 4)),
    st.tuples(st.just("leave"), st.integers(0, 4)),
    st.tuples(st.just("forget"), st.integers(0, 4)),
    st.tuples(st.just("wait"), st.sampled_from([1, 3, 12, 31])),
)


class Walk:
    """Members that do anything in any order; each answer is checked when it comes."""

    def __init__(self):
        self.group = Group("g")
        self.now_s = 0.0
        self.ids = dict.fromkeys(range(5), "")
        self.generations = dict.fromkeys(range(5), -1)
        self.owed = 0
        self.leaders = {}

    def join(self, number):
        def joined(answer):
            self.owed -= 1
            if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
                self.ids[number] = answer.member_id
            if answer.error_code:
                return
            self.ids[number], self.generations[number] = answer.member_id, answer.generation_id
            assert (answer.member_id == answer.leader_id) or not answer.members
            if answer.members:
                assert self.leaders.setdefault(answer.generation_id, answer.member_id) == answer.member_id
                assert answer.member_id in {item.member_id for item in answer.members}

        request = JoinGroupRequest(
            group="g",
            session_timeout=10_000,
            rebalance_timeout=30_000,
            member_id=self.ids[number],
            group_instance_id=f"static {number}" if number > 2 else None,
            protocol_type="consumer",
            group_protocols=[GroupProtocol(protocol_name="range", protocol_metadata=b"")],
        )
        self.owed += 1
        try:
            client = Client(client_id="c", host="/h", is_told_its_id=number in (1, 2))
            self.group.join(request, client, joined, self.now_s)
        except Refused:
            self.owed -= 1
            self.ids[number] = ""

    def sync(self, number):
        def synced(_):
            self.owed -= 1

        request = SyncGroupRequest(
            group="g",
            generation_id=self.generations[number],
            member_id=self.ids[number],
            group_assignment=[MemberAssignment(member_id=self.ids[number], member_metadata=b"x")],
        )
        self.owed += 1
        try:
            self.group.sync(request, synced, self.now_s)
        except Refused:
            self.owed -= 1

    def heartbeat(self, number):
        request = HeartbeatRequest(
            group="g", generation_id=self.generations[number], member_id=self.ids[number]
        )
        try:
            self.group.heartbeat(request, self.now_s)
        except Refused:
            return

    def leave(self, number):
        try:
            self.group.leave(self.ids[number], self.now_s)
        except Refused:
            return

    def forget(self, number):
        self.ids[number] = ""

    def wait(self, seconds):
        self.now_s += seconds
        self.group.on_time(self.now_s)


@given(steps=st.lists(STEPS, max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_group_settles_and_answers_everybody_whatever_its_members_do(steps):
    walk = Walk()
    for name, argument in steps:
        getattr(walk, name)(argument)
        due_s = walk.group.next_deadline_s()
        assert (due_s is None) == (walk.group.is_idle and walk.group.state is GroupState.EMPTY)

    for _ in range(12):
        walk.wait(31)

    assert (walk.owed, walk.group.is_idle, walk.group.state) == (0, True, GroupState.EMPTY)
