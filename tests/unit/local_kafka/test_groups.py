import struct

import pytest

from services.local.kafka.coordination_messages import (
    GroupProtocol,
    HeartbeatRequest,
    JoinGroupRequest,
    MemberAssignment,
    SyncGroupRequest,
)
from services.local.kafka.errors import ErrorCode, Refused
from services.local.kafka.groups import FIRST_REBALANCE_DELAY_S, MEMBERS_MAX, Group, GroupState
from services.local.kafka.members import Client

CLIENT = Client(client_id="c", host="/127.0.0.1")
TOLD = Client(client_id="c", host="/127.0.0.1", is_told_its_id=True)


def subscription(*topics, memory=b""):
    names = b"".join(struct.pack(">h", len(topic)) + topic.encode() for topic in topics)
    return struct.pack(">hi", 0, len(topics)) + names + struct.pack(">i", len(memory)) + memory


class Members:
    """Drives a group as its members would, on a clock that the test sets."""

    def __init__(self):
        self.group = Group("g")
        self.now_s = 0.0
        self.joined = []
        self.synced = []

    def join(
        self, member_id="", instance=None, metadata=None, protocol="range", session_ms=10_000, client=CLIENT
    ):
        answers = []
        self.joined.append(answers)
        request = JoinGroupRequest(
            group="g",
            session_timeout=session_ms,
            rebalance_timeout=30_000,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type="consumer",
            group_protocols=[
                GroupProtocol(protocol_name=protocol, protocol_metadata=metadata or subscription("t"))
            ],
        )
        self.group.join(request, client, answers.append, self.now_s)
        return answers

    def sync(self, joined, assignment=None):
        answers = []
        request = SyncGroupRequest(
            group="g",
            generation_id=joined.generation_id,
            member_id=joined.member_id,
            group_assignment=[
                MemberAssignment(member_id=name, member_metadata=data)
                for name, data in (assignment or {}).items()
            ],
        )
        self.group.sync(request, answers.append, self.now_s)
        return answers

    def heartbeat(self, joined):
        request = HeartbeatRequest(group="g", generation_id=joined.generation_id, member_id=joined.member_id)
        return code_of(lambda: self.group.heartbeat(request, self.now_s))

    def wait(self, seconds):
        self.now_s += seconds
        self.group.on_time(self.now_s)

    def settle(self, *joined):
        """Let the leader hand each member its own name as assignment."""
        (leader,) = [item for item in joined if item.member_id == item.leader_id]
        followers = [self.sync(item) for item in joined if item is not leader]
        assignment = {item.member_id: item.member_id.encode() for item in joined}
        return [answers[0] for answers in [self.sync(leader, assignment), *followers]]

    def stable_pair(self, instances=(None, None)):
        first, second = self.join(instance=instances[0]), self.join(instance=instances[1])
        self.wait(FIRST_REBALANCE_DELAY_S)
        self.settle(first[0], second[0])
        return first[0], second[0]


@pytest.fixture
def members():
    return Members()


def code_of(action):
    try:
        action()
    except Refused as refusal:
        return refusal.code
    return ErrorCode.NONE


def test_the_first_round_waits_a_moment_so_that_members_start_together(members):
    first = members.join()
    second = members.join()
    assert (first, second) == ([], [])

    members.wait(FIRST_REBALANCE_DELAY_S)

    assert [answers[0].generation_id for answers in (first, second)] == [1, 1]
    assert [item.member_id for item in first[0].members] == [first[0].member_id, second[0].member_id]
    assert second[0].members == []
    assert {first[0].leader_id, second[0].leader_id} == {first[0].member_id}


def test_a_newcomer_is_told_its_id_and_joins_under_it(members):
    (told,) = members.join(client=TOLD)
    assert (told.error_code, told.member_id[:2], members.group.is_empty, members.group.is_idle) == (
        ErrorCode.MEMBER_ID_REQUIRED,
        "c-",
        True,
        False,
    )

    joined = members.join(told.member_id, client=TOLD)
    members.wait(FIRST_REBALANCE_DELAY_S)

    assert [(answer.generation_id, answer.member_id) for answer in joined] == [(1, told.member_id)]


def test_a_newcomer_disturbs_nobody_before_it_joins(members):
    first, second = members.stable_pair()

    (told,) = members.join(client=TOLD)

    assert (members.heartbeat(first), members.heartbeat(told)) == (
        ErrorCode.NONE,
        ErrorCode.UNKNOWN_MEMBER_ID,
    )
    members.join(told.member_id, client=TOLD)
    assert members.heartbeat(second) == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_round_waits_for_those_who_were_told_an_id_until_their_time_is_over(members):
    first, second = members.stable_pair()
    third = members.join()
    (told,) = members.join(client=TOLD)
    for joined in (first, second):
        members.join(joined.member_id)
    assert third == []

    members.wait(10)

    assert [answer.generation_id for answer in third] == [2]
    assert code_of(lambda: members.join(told.member_id, client=TOLD)) == ErrorCode.UNKNOWN_MEMBER_ID


def test_an_id_may_be_given_back_before_it_is_used(members):
    (told,) = members.join(client=TOLD)

    members.group.leave(told.member_id, members.now_s)

    assert (members.group.is_idle, members.group.next_deadline_s()) == (True, None)


def test_ids_that_nobody_uses_count_as_members(members):
    for _ in range(MEMBERS_MAX):
        members.join(client=TOLD)

    assert code_of(lambda: members.join(client=TOLD)) == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert code_of(lambda: members.join()) == ErrorCode.GROUP_MAX_SIZE_REACHED
    members.wait(10)
    assert code_of(lambda: members.join()) == ErrorCode.NONE


def test_members_get_what_the_leader_assigns_whoever_asks_first(members):
    first, second = members.join(), members.join()
    members.wait(FIRST_REBALANCE_DELAY_S)

    waiting = members.sync(second[0])
    assert waiting == []
    members.sync(first[0], {second[0].member_id: b"yours"})

    assert [answer.member_assignment for answer in waiting] == [b"yours"]
    assert members.group.state is GroupState.STABLE
    assert members.sync(second[0])[0].member_assignment == b"yours"


def test_a_new_member_makes_the_others_join_again(members):
    first, second = members.stable_pair()

    third = members.join()

    assert (members.heartbeat(first), third) == (ErrorCode.REBALANCE_IN_PROGRESS, [])
    again = [members.join(item.member_id) for item in (first, second)]
    assert [answers[0].generation_id for answers in [*again, third]] == [2, 2, 2]
    assert len(again[0][0].members) == 3


def test_a_member_that_does_not_join_again_in_time_is_dropped(members):
    first, second = members.stable_pair()
    third = members.join(session_ms=60_000)
    members.join(first.member_id, session_ms=60_000)
    for _ in range(5):
        members.wait(5)
        members.heartbeat(second)

    members.wait(10)

    assert third[0].generation_id == 2
    assert members.heartbeat(second) == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_silent_member_is_dropped_after_its_session(members):
    first, second = members.stable_pair()
    members.wait(9)
    members.heartbeat(first)

    members.wait(1.1)

    assert members.heartbeat(second) == ErrorCode.UNKNOWN_MEMBER_ID
    assert members.heartbeat(first) == ErrorCode.REBALANCE_IN_PROGRESS
    assert members.group.next_deadline_s() == pytest.approx(members.now_s + 10)
    assert members.join(first.member_id)[0].generation_id == 2


def test_a_leaving_member_makes_room_at_once(members):
    first, second = members.stable_pair()

    members.group.leave(first.member_id, members.now_s)

    assert members.join(second.member_id)[0].leader_id == second.member_id
    assert code_of(lambda: members.group.leave(first.member_id, 0)) == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_group_without_members_is_empty_and_has_no_deadline(members):
    for joined in members.stable_pair():
        members.group.leave(joined.member_id, members.now_s)

    assert (members.group.state, members.group.is_empty, members.group.next_deadline_s()) == (
        GroupState.EMPTY,
        True,
        None,
    )


def test_members_of_another_generation_are_refused(members):
    first, _ = members.stable_pair()
    stale = type(first)(generation_id=0, member_id=first.member_id)
    stranger = type(first)(generation_id=1, member_id="nobody")

    assert (members.heartbeat(stale), members.heartbeat(stranger)) == (
        ErrorCode.ILLEGAL_GENERATION,
        ErrorCode.UNKNOWN_MEMBER_ID,
    )
    assert code_of(lambda: members.join("nobody")) == ErrorCode.UNKNOWN_MEMBER_ID
    assert code_of(lambda: members.sync(stale)) == ErrorCode.ILLEGAL_GENERATION


def test_commits_are_taken_from_current_members_only(members):
    def commit(member_id, generation):
        return code_of(lambda: members.group.check_commit(member_id, generation, members.now_s))

    assert commit("", -1) == ErrorCode.NONE
    first, _ = members.stable_pair()
    answers = [commit("", -1), commit(first.member_id, 1), commit(first.member_id, 0)]
    members.join()

    assert answers == [ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.NONE, ErrorCode.ILLEGAL_GENERATION]
    assert (
        commit(first.member_id, 1) == ErrorCode.NONE
    )  # on_partitions_revoked commits while a round is prepared


def test_members_without_a_common_protocol_are_refused(members):
    members.join(protocol="range")

    assert code_of(lambda: members.join(protocol="sticky")) == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_a_restarted_static_member_takes_its_place_without_a_rebalance(members):
    leader, follower = members.stable_pair(instances=("one", "two"))

    for old in (leader, follower):
        instance = "one" if old is leader else "two"
        (back,) = members.join(instance=instance, metadata=subscription("t", memory=b"forgot"))
        assert (back.generation_id, back.members) == (1, [])
        assert back.member_id not in (old.member_id, back.leader_id)
        assert members.sync(back)[0].member_assignment == old.member_id.encode()
        assert members.heartbeat(old) == ErrorCode.UNKNOWN_MEMBER_ID
        assert members.heartbeat(back) == ErrorCode.NONE


def test_a_static_member_that_wants_other_topics_causes_a_rebalance(members):
    _, follower = members.stable_pair(instances=("one", "two"))

    back = members.join(instance="one", metadata=subscription("t", "u"))

    assert (back, members.heartbeat(follower)) == ([], ErrorCode.REBALANCE_IN_PROGRESS)


def test_a_fenced_static_member_cannot_come_back_under_its_old_id(members):
    leader, _ = members.stable_pair(instances=("one", "two"))
    members.join(instance="one")

    assert code_of(lambda: members.join(leader.member_id, instance="one")) == ErrorCode.FENCED_INSTANCE_ID


def test_a_static_member_that_is_away_keeps_its_share_until_its_session_ends(members):
    leader, _ = members.stable_pair(instances=("one", "two"))
    third = members.join(session_ms=60_000)
    again = members.join(leader.member_id, instance="one", session_ms=60_000)
    members.wait(9)
    assert again == []

    members.wait(2)

    assert [answers[0].generation_id for answers in (third, again)] == [2, 2]
    assert len(again[0].members) == 2


def test_a_repeated_join_of_an_unchanged_follower_gets_the_running_generation(members):
    leader, follower = members.stable_pair()

    (again,) = members.join(follower.member_id)

    assert (again.generation_id, members.heartbeat(leader)) == (1, ErrorCode.NONE)


def test_members_that_never_sync_are_dropped(members):
    first, second = members.join(session_ms=60_000), members.join(session_ms=60_000)
    members.wait(FIRST_REBALANCE_DELAY_S)
    waiting = members.sync(second[0])

    members.wait(31)

    assert [answer.error_code for answer in waiting] == [ErrorCode.REBALANCE_IN_PROGRESS]
    assert members.heartbeat(first[0]) == ErrorCode.UNKNOWN_MEMBER_ID
    assert members.join(second[0].member_id)[0].generation_id == 2


def test_a_described_group_names_its_members_and_their_shares(members):
    first, second = members.stable_pair()

    described = members.group.describe()

    assert (described.state, described.protocol, described.protocol_type) == ("Stable", "range", "consumer")
    assert {item.member_id: item.member_assignment for item in described.members} == {
        item.member_id: item.member_id.encode() for item in (first, second)
    }


@pytest.mark.parametrize("metadata", [b"", b"\0", subscription("t")[:-6], b"\0\0\x7f\xff\xff\xff"])
def test_metadata_of_any_shape_can_be_compared(members, metadata):
    members.join(instance="one", metadata=metadata)
    members.wait(FIRST_REBALANCE_DELAY_S)

    assert members.join(instance="one", metadata=metadata) is not None
