"""Answers the requests about consumer groups, each group deciding for itself; never awaits."""

from services.local.kafka.coordination_messages import (
    CommittedOffset,
    DeletedGroup,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    HeartbeatRequest,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    ListedGroup,
    ListGroupsRequest,
    ListGroupsResponse,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    PartitionCommit,
    SyncGroupRequest,
    SyncGroupResponse,
    TopicCodes,
    TopicCommitted,
    TopicPartitions,
)
from services.local.kafka.errors import ErrorCode, Refused
from services.local.kafka.groups import Group
from services.local.kafka.members import Client, JoinReply, SyncReply
from services.local.kafka.messages import CodeResponse, PartitionCode
from services.local.kafka.offsets import METADATA_LENGTH_MAX, CommittedOffsets, Position
from services.local.kafka.topics import Topics

GROUPS_MAX = 10_000  # in memory; groups that are idle and have no positions are forgotten
SESSION_TIMEOUT_MS_MIN = 6_000  # Kafka's group.min.session.timeout.ms
SESSION_TIMEOUT_MS_MAX = 30 * 60_000  # Kafka's group.max.session.timeout.ms


class GroupCoordinator:
    """Every consumer group of this broker."""

    def __init__(
        self, topics: Topics, offsets: CommittedOffsets, session_timeout_ms_min: int = SESSION_TIMEOUT_MS_MIN
    ) -> None:
        self._topics = topics
        self._offsets = offsets
        self._session_timeout_ms_min = session_timeout_ms_min
        self._groups: dict[str, Group] = {}

    def join(self, request: JoinGroupRequest, client: Client, reply: JoinReply, now_s: float) -> None:
        """Let a member join; `reply` is called at once for a refusal, else when its generation begins."""
        try:
            if not request.group:
                raise Refused(ErrorCode.INVALID_GROUP_ID)
            if not self._session_timeout_ms_min <= request.session_timeout <= SESSION_TIMEOUT_MS_MAX:
                raise Refused(ErrorCode.INVALID_SESSION_TIMEOUT)
            self._group(request.group).join(request, client, reply, now_s)
        except Refused as refusal:
            reply(JoinGroupResponse(error_code=refusal.code, member_id=request.member_id))

    def sync(self, request: SyncGroupRequest, reply: SyncReply, now_s: float) -> None:
        """Hand out assignments; `reply` is called when there is one."""
        try:
            self._known(request.group).sync(request, reply, now_s)
        except Refused as refusal:
            reply(SyncGroupResponse(error_code=refusal.code))

    def heartbeat(self, request: HeartbeatRequest, now_s: float) -> CodeResponse:
        """Note that a member lives."""
        try:
            self._known(request.group).heartbeat(request, now_s)
        except Refused as refusal:
            return CodeResponse(error_code=refusal.code)
        return CodeResponse(error_code=ErrorCode.NONE)

    def leave(self, request: LeaveGroupRequest, now_s: float) -> CodeResponse:
        """Let a member go."""
        try:
            self._known(request.group).leave(request.member_id, now_s)
        except Refused as refusal:
            return CodeResponse(error_code=refusal.code)
        return CodeResponse(error_code=ErrorCode.NONE)

    def commit(self, request: OffsetCommitRequest, now_s: float) -> OffsetCommitResponse:
        """Remember a group's positions."""
        refused = ErrorCode.NONE
        try:
            group = self._committing(request)
            group.check_commit(request.member_id, request.generation_id, now_s)
        except Refused as refusal:
            refused = refusal.code
        positions: list[Position] = []
        topics: list[TopicCodes] = []
        for topic in request.topics:
            codes: list[PartitionCode] = []
            for commit in topic.partitions:
                code = refused or self._commit_fault(topic.topic, commit)
                codes.append(PartitionCode(partition=commit.partition, error_code=code))
                if code is ErrorCode.NONE:
                    positions.append(position_of(request.group, topic.topic, commit))
            topics.append(TopicCodes(topic=topic.topic, partitions=codes))
        self._offsets.commit(positions)
        return OffsetCommitResponse(topics=topics)

    def fetch_offsets(self, request: OffsetFetchRequest) -> OffsetFetchResponse:
        """Give a group's positions."""
        positions = self._offsets.of_group(request.group)
        wanted = request.topics
        if wanted is None:
            by_topic: dict[str, list[int]] = {}
            for topic, partition in sorted(positions):
                by_topic.setdefault(topic, []).append(partition)
            wanted = [TopicPartitions(topic=topic, partitions=numbers) for topic, numbers in by_topic.items()]
        return OffsetFetchResponse(
            topics=[
                TopicCommitted(
                    topic=item.topic,
                    partitions=[
                        _committed(number, positions.get((item.topic, number))) for number in item.partitions
                    ],
                )
                for item in wanted
            ]
        )

    def list_groups(self, _: ListGroupsRequest) -> ListGroupsResponse:
        """List the groups that have members or positions."""
        self._forget_idle()
        names = sorted({*self._groups, *self._offsets.groups()})
        return ListGroupsResponse(
            groups=[ListedGroup(group=name, protocol_type=self._protocol_type(name)) for name in names]
        )

    def describe_groups(self, request: DescribeGroupsRequest) -> DescribeGroupsResponse:
        """Describe groups; one that nobody knows is dead, as in Kafka."""
        return DescribeGroupsResponse(groups=[self._describe(name) for name in request.groups])

    def delete_groups(self, request: DeleteGroupsRequest) -> DeleteGroupsResponse:
        """Forget groups without members, with their positions."""
        results = [DeletedGroup(group=name, error_code=self._delete(name)) for name in request.groups_names]
        return DeleteGroupsResponse(results=results)

    def next_deadline_s(self) -> float | None:
        """Say when `on_time` has something to decide."""
        deadlines = (group.next_deadline_s() for group in self._groups.values())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def on_time(self, now_s: float) -> None:
        """Let every group drop its silent members and end its overdue rounds."""
        for group in list(self._groups.values()):
            group.on_time(now_s)
        self._forget_idle()

    def _known(self, name: str) -> Group:
        group = self._groups.get(name)
        if group is None:
            raise Refused(ErrorCode.UNKNOWN_MEMBER_ID)
        return group

    def _group(self, name: str) -> Group:
        group = self._groups.get(name)
        if group is not None:
            return group
        if len(self._groups) >= GROUPS_MAX:
            self._forget_idle()
        if len(self._groups) >= GROUPS_MAX:
            raise Refused(ErrorCode.POLICY_VIOLATION, f"This broker coordinates {GROUPS_MAX} groups.")
        self._groups[name] = Group(name)
        return self._groups[name]

    def _committing(self, request: OffsetCommitRequest) -> Group:
        """Give the group that positions are committed into; a group that is gone has no generations."""
        group = self._groups.get(request.group)
        if group is not None:
            return group
        if request.generation_id >= 0 and not self._offsets.of_group(request.group):
            raise Refused(ErrorCode.ILLEGAL_GENERATION)
        return Group(request.group)

    def _commit_fault(self, topic: str, commit: PartitionCommit) -> ErrorCode:
        try:
            self._topics.log(topic, commit.partition)
        except Refused as refusal:
            return refusal.code
        too_long = len(commit.metadata or "") > METADATA_LENGTH_MAX
        return ErrorCode.OFFSET_METADATA_TOO_LARGE if too_long else ErrorCode.NONE

    def _describe(self, name: str) -> DescribedGroup:
        group = self._groups.get(name)
        if group is not None:
            return group.describe()
        state = "Empty" if self._offsets.of_group(name) else "Dead"
        return DescribedGroup(group=name, state=state)

    def _delete(self, name: str) -> ErrorCode:
        group = self._groups.get(name)
        if group is not None and not group.is_empty:
            return ErrorCode.NON_EMPTY_GROUP
        if group is None and not self._offsets.of_group(name):
            return ErrorCode.GROUP_ID_NOT_FOUND
        self._groups.pop(name, None)
        self._offsets.forget_group(name)
        return ErrorCode.NONE

    def _protocol_type(self, name: str) -> str:
        group = self._groups.get(name)
        return group.protocol_type if group is not None else ""

    def _forget_idle(self) -> None:
        for name, group in list(self._groups.items()):
            if group.is_idle and not self._offsets.of_group(name):
                del self._groups[name]


def position_of(group: str, topic: str, commit: PartitionCommit) -> Position:
    """Write down a position as a client commits it."""
    return Position(
        group=group,
        topic=topic,
        partition=commit.partition,
        offset=commit.offset,
        metadata=commit.metadata or "",
    )


def _committed(partition: int, position: Position | None) -> CommittedOffset:
    if position is None:
        return CommittedOffset(partition=partition)
    return CommittedOffset(partition=partition, offset=position.offset, metadata=position.metadata)
