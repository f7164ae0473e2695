"""Carries the requests and answers about consumer groups and transactions; decides nothing."""

import msgspec

from services.local.kafka.messages import Message, PartitionCode

# ---- consumer groups


class FindCoordinatorRequest(Message, frozen=True, kw_only=True):
    """Ask which broker coordinates a group or a transactional id: always this one."""


class FindCoordinatorResponse(Message, frozen=True, kw_only=True):
    """This broker's address once more."""

    error_code: int = 0
    coordinator_id: int
    host: str
    port: int


class GroupProtocol(Message, frozen=True, kw_only=True):
    """An assignment strategy that a member can speak, with its subscription."""

    protocol_name: str
    protocol_metadata: bytes


class JoinGroupRequest(Message, frozen=True, kw_only=True):
    """Enter a group, or enter it again."""

    group: str
    session_timeout: int
    rebalance_timeout: int = 0
    member_id: str
    group_instance_id: str | None = None
    protocol_type: str
    group_protocols: list[GroupProtocol]


class JoinedMember(Message, frozen=True, kw_only=True):
    """A member as the leader sees it."""

    member_id: str
    group_instance_id: str | None = None
    member_metadata: bytes


class JoinGroupResponse(Message, frozen=True, kw_only=True):
    """The new generation; the leader also gets all members."""

    error_code: int = 0
    generation_id: int = -1
    group_protocol: str = ""
    leader_id: str = ""
    member_id: str = ""
    members: list[JoinedMember] = msgspec.field(default_factory=list[JoinedMember])


class MemberAssignment(Message, frozen=True, kw_only=True):
    """What the leader assigns to one member."""

    member_id: str
    member_metadata: bytes


class SyncGroupRequest(Message, frozen=True, kw_only=True):
    """Hand in the assignment (leader) or wait for it."""

    group: str
    generation_id: int
    member_id: str
    group_instance_id: str | None = None
    group_assignment: list[MemberAssignment]


class SyncGroupResponse(Message, frozen=True, kw_only=True):
    """The member's own assignment."""

    error_code: int = 0
    member_assignment: bytes = b""


class HeartbeatRequest(Message, frozen=True, kw_only=True):
    """A member is alive."""

    group: str
    generation_id: int
    member_id: str


class LeaveGroupRequest(Message, frozen=True, kw_only=True):
    """A member goes."""

    group: str
    member_id: str


class PartitionCommit(Message, frozen=True, kw_only=True):
    """A position to be remembered."""

    partition: int
    offset: int
    metadata: str | None


class TopicCommits(Message, frozen=True, kw_only=True):
    """Positions in one topic."""

    topic: str
    partitions: list[PartitionCommit]


class OffsetCommitRequest(Message, frozen=True, kw_only=True):
    """Remember these positions."""

    group: str
    generation_id: int
    member_id: str
    topics: list[TopicCommits]


class TopicCodes(Message, frozen=True, kw_only=True):
    """An error code for each partition of one topic."""

    topic: str
    partitions: list[PartitionCode]


class OffsetCommitResponse(Message, frozen=True, kw_only=True):
    """Which positions were remembered."""

    topics: list[TopicCodes]


class TopicPartitions(Message, frozen=True, kw_only=True):
    """Some partitions of one topic."""

    topic: str
    partitions: list[int]


class OffsetFetchRequest(Message, frozen=True, kw_only=True):
    """Give a group's positions, all for None."""

    group: str
    topics: list[TopicPartitions] | None


class CommittedOffset(Message, frozen=True, kw_only=True):
    """A remembered position, -1 for none."""

    partition: int
    offset: int = -1
    metadata: str | None = ""
    error_code: int = 0


class TopicCommitted(Message, frozen=True, kw_only=True):
    """Remembered positions in one topic."""

    topic: str
    partitions: list[CommittedOffset]


class OffsetFetchResponse(Message, frozen=True, kw_only=True):
    """A group's positions."""

    topics: list[TopicCommitted]
    error_code: int = 0


class DescribeGroupsRequest(Message, frozen=True, kw_only=True):
    """Describe these groups."""

    groups: list[str]


class DescribedMember(Message, frozen=True, kw_only=True):
    """A member of a described group."""

    member_id: str
    client_id: str
    client_host: str
    member_metadata: bytes
    member_assignment: bytes


class DescribedGroup(Message, frozen=True, kw_only=True):
    """A group and its members."""

    error_code: int = 0
    group: str
    state: str
    protocol_type: str = ""
    protocol: str = ""
    members: list[DescribedMember] = msgspec.field(default_factory=list[DescribedMember])


class DescribeGroupsResponse(Message, frozen=True, kw_only=True):
    """The groups asked for."""

    groups: list[DescribedGroup]


class ListGroupsRequest(Message, frozen=True, kw_only=True):
    """List all groups."""


class ListedGroup(Message, frozen=True, kw_only=True):
    """A group's name."""

    group: str
    protocol_type: str


class ListGroupsResponse(Message, frozen=True, kw_only=True):
    """All groups."""

    error_code: int = 0
    groups: list[ListedGroup]


class DeleteGroupsRequest(Message, frozen=True, kw_only=True):
    """Delete these groups with their positions."""

    groups_names: list[str]


class DeletedGroup(Message, frozen=True, kw_only=True):
    """Whether a group was deleted."""

    group: str
    error_code: int


class DeleteGroupsResponse(Message, frozen=True, kw_only=True):
    """Which groups were deleted."""

    results: list[DeletedGroup]


# ---- transactions


class InitProducerIdRequest(Message, frozen=True, kw_only=True):
    """Give a producer its id, and fence its predecessors."""

    transactional_id: str | None
    transaction_timeout_ms: int


class InitProducerIdResponse(Message, frozen=True, kw_only=True):
    """A producer's id and epoch."""

    error_code: int = 0
    producer_id: int = -1
    producer_epoch: int = -1


class AddPartitionsToTxnRequest(Message, frozen=True, kw_only=True):
    """Take these partitions into the transaction."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    topics: list[TopicPartitions]


class TopicErrors(Message, frozen=True, kw_only=True):
    """An error code for each partition of one topic."""

    topic: str
    partition_errors: list[PartitionCode]


class TransactionErrorsResponse(Message, frozen=True, kw_only=True):
    """An error code for each partition."""

    errors: list[TopicErrors]


class AddOffsetsToTxnRequest(Message, frozen=True, kw_only=True):
    """Take a group's positions into the transaction."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    group: str


class TxnOffsetCommitRequest(Message, frozen=True, kw_only=True):
    """Remember these positions if the transaction commits."""

    transactional_id: str
    group: str
    producer_id: int
    producer_epoch: int
    topics: list[TopicCommits]


class EndTxnRequest(Message, frozen=True, kw_only=True):
    """End the transaction: commit for True."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    transaction_result: bool
