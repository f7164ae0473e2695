"""Decides the life of one consumer group (members, generations, rebalances); holds no I/O and no clock."""

from enum import Enum
from uuid import uuid4

import msgspec

from services.local.kafka.coordination_messages import (
    DescribedGroup,
    DescribedMember,
    HeartbeatRequest,
    JoinedMember,
    JoinGroupRequest,
    JoinGroupResponse,
    SyncGroupRequest,
    SyncGroupResponse,
)
from services.local.kafka.errors import ErrorCode, Refused
from services.local.kafka.members import Client, JoinReply, Member, SyncReply, subscriptions

# How long the first generation of an empty group waits for more members: Kafka's default is 3 s, but a
# laptop's consumers start together and a test should not wait.
FIRST_REBALANCE_DELAY_S = 0.2
MEMBERS_MAX = 250  # per group, those included that were told an id and have not joined yet


class GroupState(Enum):
    """Where a group stands, in Kafka's words."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


class Group:
    """One consumer group. Every method takes the time; answers that must wait go through reply callbacks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = GroupState.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self._protocol = ""
        self._leader_id = ""
        self._members: dict[str, Member] = {}
        self._static: dict[str, str] = {}
        self._told: dict[str, float] = {}
        self._deadline_s: float | None = None
        self._is_first_round = False

    @property
    def is_empty(self) -> bool:
        """Whether the group has no members."""
        return not self._members

    @property
    def is_idle(self) -> bool:
        """Whether nobody is a member or about to become one."""
        return not self._members and not self._told

    def join(self, request: JoinGroupRequest, client: Client, reply: JoinReply, now_s: float) -> None:
        """Take a member in, or in again; `reply` is called when the generation it belongs to begins."""
        self._check_join(request)
        instance_id = request.group_instance_id
        if request.member_id:
            self._check_instance(instance_id, request.member_id)
        member = self._members.get(request.member_id)
        if member is None and request.member_id and request.member_id not in self._told:
            raise Refused(ErrorCode.UNKNOWN_MEMBER_ID)
        if member is not None:
            self._join_again(member, request, reply, now_s)
        elif instance_id is not None and instance_id in self._static:
            self._take_over(instance_id, request, client, reply, now_s)
        elif client.is_told_its_id and instance_id is None and not request.member_id:
            self._tell_id(request, client, reply, now_s)
        else:
            self._join_new(request, client, reply, now_s)

    def sync(self, request: SyncGroupRequest, reply: SyncReply, now_s: float) -> None:
        """Take the leader's assignment, or wait for it."""
        self._check_instance(request.group_instance_id, request.member_id)
        member = self._current(request.member_id, request.generation_id)
        member.seen_s = now_s
        if self.state is GroupState.PREPARING:
            raise Refused(ErrorCode.REBALANCE_IN_PROGRESS)
        if self.state is GroupState.STABLE:
            reply(SyncGroupResponse(member_assignment=member.assignment))
            return
        member.answer_sync(SyncGroupResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS))
        member.sync_reply = reply
        if member.member_id == self._leader_id:
            self._assign({item.member_id: item.member_metadata for item in request.group_assignment}, now_s)

    def heartbeat(self, request: HeartbeatRequest, now_s: float) -> None:
        """Note that a member lives; refuse it when it must join again."""
        member = self._current(request.member_id, request.generation_id)
        member.seen_s = now_s
        if self.state is GroupState.PREPARING:
            raise Refused(ErrorCode.REBALANCE_IN_PROGRESS)

    def leave(self, member_id: str, now_s: float) -> None:
        """Let a member go."""
        if self._told.pop(member_id, None) is not None:
            self._begin_if_all_joined(now_s)
            return
        member = self._members.get(member_id)
        if member is None:
            raise Refused(ErrorCode.UNKNOWN_MEMBER_ID)
        self._remove(member)
        self._after_removal(now_s)

    def check_commit(self, member_id: str, generation: int, now_s: float) -> None:
        """Refuse positions of anyone but a current member, or of anyone at all in an empty group."""
        if generation < 0 and self.is_empty:
            return
        member = self._current(member_id, generation)
        member.seen_s = now_s
        if self.state is GroupState.COMPLETING:
            raise Refused(ErrorCode.REBALANCE_IN_PROGRESS)

    def next_deadline_s(self) -> float | None:
        """Say when `on_time` has something to decide."""
        deadlines = [member.session_end_s for member in self._members.values() if not member.is_waiting]
        deadlines.extend(self._told.values())
        if self._deadline_s is not None:
            deadlines.append(self._deadline_s)
        return min(deadlines, default=None)

    def on_time(self, now_s: float) -> None:
        """Drop the members that fell silent and end the rounds that took too long."""
        for member in list(self._members.values()):
            is_member = member.member_id in self._members
            if is_member and not member.is_waiting and member.session_end_s <= now_s:
                self._remove(member)
                self._after_removal(now_s)
        self._forget_told(now_s)
        if self._deadline_s is None or self._deadline_s > now_s:
            return
        if self.state is GroupState.PREPARING:
            self._begin_generation(now_s)
        elif self.state is GroupState.COMPLETING:
            for member in list(self._members.values()):
                if member.sync_reply is None:
                    self._remove(member)
            self._after_removal(now_s)

    def describe(self) -> DescribedGroup:
        """Describe the group and its members."""
        members = [
            DescribedMember(
                member_id=member.member_id,
                client_id=member.client.client_id,
                client_host=member.client.host,
                member_metadata=member.protocols.get(self._protocol, b""),
                member_assignment=member.assignment,
            )
            for member in self._members.values()
        ]
        return DescribedGroup(
            group=self.name,
            state=self.state.value,
            protocol_type=self.protocol_type,
            protocol=self._protocol,
            members=members,
        )

    # ---- joining

    def _check_join(self, request: JoinGroupRequest) -> None:
        if not request.protocol_type or not request.group_protocols:
            raise Refused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        others = [member for member in self._members.values() if member.member_id != request.member_id]
        offered = {item.protocol_name for item in request.group_protocols}
        common = offered.intersection(*(member.protocols for member in others))
        if others and (request.protocol_type != self.protocol_type or not common):
            raise Refused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)

    def _tell_id(self, request: JoinGroupRequest, client: Client, reply: JoinReply, now_s: float) -> None:
        """Give a newcomer its id, under which alone it may join: an answer that is lost leaves no member."""
        self._check_size()
        member_id = _new_member_id(client.client_id)
        self._told[member_id] = now_s + request.session_timeout / 1_000
        reply(JoinGroupResponse(error_code=ErrorCode.MEMBER_ID_REQUIRED, member_id=member_id))

    def _forget_told(self, now_s: float) -> None:
        """Forget the ids under which nobody has joined in time."""
        overdue = [member_id for member_id, end_s in self._told.items() if end_s <= now_s]
        for member_id in overdue:
            del self._told[member_id]
        if overdue:
            self._begin_if_all_joined(now_s)

    def _check_size(self) -> None:
        if len(self._members) + len(self._told) >= MEMBERS_MAX:
            raise Refused(ErrorCode.GROUP_MAX_SIZE_REACHED)

    def _join_new(self, request: JoinGroupRequest, client: Client, reply: JoinReply, now_s: float) -> None:
        if request.member_id not in self._told:
            self._check_size()
        member = self._admit(request, client, now_s)
        member.join_reply = reply
        self.protocol_type = request.protocol_type
        if self.state is GroupState.EMPTY:
            self._prepare(now_s)
            self._deadline_s = now_s + min(FIRST_REBALANCE_DELAY_S, member.rebalance_timeout_s)
            self._is_first_round = True
        elif self.state is not GroupState.PREPARING:
            self._prepare(now_s)
        self._begin_if_all_joined(now_s)

    def _admit(self, request: JoinGroupRequest, client: Client, now_s: float) -> Member:
        member_id = request.member_id or _new_member_id(request.group_instance_id or client.client_id)
        self._told.pop(member_id, None)
        member = Member(member_id, request, client)
        member.seen_s = now_s
        self._members[member.member_id] = member
        if member.instance_id is not None:
            self._static[member.instance_id] = member.member_id
        return member

    def _join_again(self, member: Member, request: JoinGroupRequest, reply: JoinReply, now_s: float) -> None:
        before = member.protocols
        member.update(request)
        member.seen_s = now_s
        member.answer_join(
            JoinGroupResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS, member_id=member.member_id)
        )
        member.join_reply = reply
        unchanged = member.protocols == before
        is_leader = member.member_id == self._leader_id
        if unchanged and (
            self.state is GroupState.COMPLETING or (self.state is GroupState.STABLE and not is_leader)
        ):
            # The member missed its answer: it gets the running generation once more.
            member.answer_join(self._welcome(member))
            return
        if self.state is not GroupState.PREPARING:
            self._prepare(now_s)
        self._begin_if_all_joined(now_s)

    def _take_over(
        self, instance_id: str, request: JoinGroupRequest, client: Client, reply: JoinReply, now_s: float
    ) -> None:
        """Let a restarted static member step into its old place, without a rebalance if it wants the same."""
        old = self._members[self._static[instance_id]]
        self._remove(old, ErrorCode.FENCED_INSTANCE_ID)
        member = self._admit(request, client, now_s)
        member.assignment = old.assignment
        member.join_reply = reply
        old_leader_id = self._leader_id
        if old_leader_id == old.member_id:
            self._leader_id = member.member_id
        wants_the_same = subscriptions(member.protocols) == subscriptions(old.protocols)
        if self.state is GroupState.STABLE and wants_the_same:
            response = msgspec.structs.replace(self._welcome(member), leader_id=old_leader_id, members=[])
            member.answer_join(response)
            return
        if self.state is not GroupState.PREPARING:
            self._prepare(now_s)
        self._begin_if_all_joined(now_s)

    # ---- rounds

    def _prepare(self, now_s: float) -> None:
        self.state = GroupState.PREPARING
        self._is_first_round = False
        for member in self._members.values():
            member.answer_sync(SyncGroupResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS))
        longest_s = max((member.rebalance_timeout_s for member in self._members.values()), default=0.0)
        self._deadline_s = now_s + longest_s

    def _begin_if_all_joined(self, now_s: float) -> None:
        all_joined = all(member.join_reply is not None for member in self._members.values())
        if self.state is GroupState.PREPARING and all_joined and not self._told and not self._is_first_round:
            self._begin_generation(now_s)

    def _begin_generation(self, now_s: float) -> None:
        for member in list(self._members.values()):
            if member.join_reply is None and member.instance_id is None:
                self._remove(member)
        self._deadline_s = None
        self._is_first_round = False
        joined = [member for member in self._members.values() if member.join_reply is not None]
        if not joined:
            self._settle_without_joiners(now_s)
            return
        self.generation += 1
        self.state = GroupState.COMPLETING
        self._protocol = self._common_protocol(joined)
        leader = self._members.get(self._leader_id)
        if leader is None or leader.join_reply is None:
            self._leader_id = joined[0].member_id
        self._deadline_s = now_s + max(member.rebalance_timeout_s for member in joined)
        for member in self._members.values():
            member.assignment = b""
        for member in joined:
            member.seen_s = now_s
            member.answer_join(self._welcome(member))

    def _settle_without_joiners(self, now_s: float) -> None:
        """Wait on for static members that are away, or become empty."""
        if self._members:
            self._prepare(now_s)
        else:
            self._become_empty()

    def _become_empty(self) -> None:
        self.state = GroupState.EMPTY
        self.generation += 1
        self._leader_id = self._protocol = ""
        self._deadline_s = None

    def _common_protocol(self, joined: list[Member]) -> str:
        """Choose what most members like best of what all can speak."""
        members = list(self._members.values())
        common = [name for name in joined[0].protocols if all(name in member.protocols for member in members)]
        votes = [next(name for name in member.protocols if name in common) for member in members if common]
        return max(common, key=votes.count) if common else ""

    def _welcome(self, member: Member) -> JoinGroupResponse:
        members: list[JoinedMember] = []
        if member.member_id == self._leader_id:
            members = [
                JoinedMember(
                    member_id=other.member_id,
                    group_instance_id=other.instance_id,
                    member_metadata=other.protocols.get(self._protocol, b""),
                )
                for other in self._members.values()
            ]
        return JoinGroupResponse(
            generation_id=self.generation,
            group_protocol=self._protocol,
            leader_id=self._leader_id,
            member_id=member.member_id,
            members=members,
        )

    def _assign(self, assignments: dict[str, bytes], now_s: float) -> None:
        self.state = GroupState.STABLE
        self._deadline_s = None
        for member in self._members.values():
            member.assignment = assignments.get(member.member_id, b"")
            if member.sync_reply is not None:
                member.seen_s = now_s
            member.answer_sync(SyncGroupResponse(member_assignment=member.assignment))

    # ---- members

    def _check_instance(self, instance_id: str | None, member_id: str) -> None:
        """Refuse a static member whose place another has taken since."""
        if instance_id is not None and self._static.get(instance_id, member_id) != member_id:
            raise Refused(ErrorCode.FENCED_INSTANCE_ID)

    def _current(self, member_id: str, generation: int) -> Member:
        member = self._members.get(member_id)
        if member is None:
            raise Refused(ErrorCode.UNKNOWN_MEMBER_ID)
        if generation != self.generation:
            raise Refused(ErrorCode.ILLEGAL_GENERATION)
        return member

    def _remove(self, member: Member, code: ErrorCode = ErrorCode.UNKNOWN_MEMBER_ID) -> None:
        del self._members[member.member_id]
        if member.instance_id is not None and self._static.get(member.instance_id) == member.member_id:
            del self._static[member.instance_id]
        member.answer_join(JoinGroupResponse(error_code=code, member_id=member.member_id))
        member.answer_sync(SyncGroupResponse(error_code=code))

    def _after_removal(self, now_s: float) -> None:
        if not self._members:
            self._become_empty()
        elif self.state is GroupState.PREPARING:
            self._begin_if_all_joined(now_s)
        else:
            self._prepare(now_s)
            self._begin_if_all_joined(now_s)


def _new_member_id(prefix: str) -> str:
    return f"{prefix or 'member'}-{uuid4()}"
