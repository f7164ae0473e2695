"""Carries one member of a consumer group and what it asks for; decides nothing about the group."""

from collections.abc import Callable

import msgspec

from services.local.kafka.coordination_messages import (
    JoinGroupRequest,
    JoinGroupResponse,
    SyncGroupResponse,
)

REBALANCE_TIMEOUT_MS_MAX = 60 * 60_000  # a member that needs longer to give up its work has lost it

JoinReply = Callable[[JoinGroupResponse], None]
SyncReply = Callable[[SyncGroupResponse], None]


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """Who speaks for a member; `is_told_its_id` where it must ask for an id before it may join."""

    client_id: str
    host: str
    is_told_its_id: bool = False


class Member:
    """A member, with the requests of its that wait for an answer."""

    def __init__(self, member_id: str, request: JoinGroupRequest, client: Client) -> None:
        self.member_id = member_id
        self.client = client
        self.join_reply: JoinReply | None = None
        self.sync_reply: SyncReply | None = None
        self.assignment = b""
        self.seen_s = 0.0
        self.instance_id = request.group_instance_id
        self.update(request)

    def update(self, request: JoinGroupRequest) -> None:
        """Take over what the member asks for now."""
        self.protocols = {item.protocol_name: item.protocol_metadata for item in request.group_protocols}
        self.session_timeout_s = request.session_timeout / 1_000
        rebalance_timeout_ms = request.rebalance_timeout or request.session_timeout
        self.rebalance_timeout_s = min(rebalance_timeout_ms, REBALANCE_TIMEOUT_MS_MAX) / 1_000

    @property
    def session_end_s(self) -> float:
        """When the member counts as dead unless it is heard of."""
        return self.seen_s + self.session_timeout_s

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is owed: then silence is no sign of death."""
        return self.join_reply is not None or self.sync_reply is not None

    def answer_join(self, response: JoinGroupResponse) -> None:
        """Answer the waiting join request, if there is one."""
        reply, self.join_reply = self.join_reply, None
        if reply is not None:
            reply(response)

    def answer_sync(self, response: SyncGroupResponse) -> None:
        """Answer the waiting sync request, if there is one."""
        reply, self.sync_reply = self.sync_reply, None
        if reply is not None:
            reply(response)


def subscriptions(protocols: dict[str, bytes]) -> dict[str, bytes]:
    """Reduce each protocol's metadata to version and topics: a sticky assignor's memory is no wish."""
    return {name: metadata[: _topics_end(metadata)] for name, metadata in protocols.items()}


def _topics_end(metadata: bytes) -> int:
    count = int.from_bytes(metadata[2:6], "big")
    position = 6
    for _ in range(count):
        if position + 2 > len(metadata):
            return len(metadata)
        position += 2 + int.from_bytes(metadata[position : position + 2], "big")
    return position
