# pyright: reportUnknownMemberType=false
# aiokafka's protocol types are partly untyped; this module is the only one that sees them.
"""Turns frames into typed requests and typed answers into frames, in the versions offered; holds no I/O."""

import io
import struct
from collections.abc import Sequence
from typing import TypeAlias, cast

import msgspec
from aiokafka.protocol import (
    admin,
    commit,
    coordination,
    fetch,
    group,
    metadata,
    offset,
    produce,
    transaction,
)
from aiokafka.protocol.api import RequestStruct
from aiokafka.protocol.types import Array, Bytes, Schema, String

from services.local.kafka import admin_messages, coordination_messages, messages
from services.local.kafka.errors import ErrorCode, MalformedFrame, UnsupportedRequest
from services.local.kafka.messages import ApiRange, ApiVersionsRequest, ApiVersionsResponse, Message

FRAME_BYTES_MAX = 100 * 1024**2  # Kafka's socket.request.max.bytes; here only what carries records needs it
REQUEST_BYTES_MAX = 4 * 1024**2  # of any other request: decoded, it takes many times its bytes
LENGTH_BYTES = 4
FRAME_HEAD_BYTES = 6  # the length and the kind of request, by which the length is judged
API_VERSIONS_KEY = 18
JOIN_GROUP_KEY = 11
_TELLS_MEMBER_IDS = 4
_ADVANCED_API_VERSIONS = 3  # from here on the request's header has another shape; the answer to it does not
_FRAME_HEAD = struct.Struct(">ih")
_PRODUCE_KEY = 0
_HEADER = struct.Struct(">hhih")

_Builtin: TypeAlias = "int | bool | str | bytes | list[_Builtin] | dict[str, _Builtin] | None"
_Encodable: TypeAlias = "int | bool | str | bytes | list[_Encodable] | tuple[_Encodable, ...] | None"

# One typed request for each kind of request that is offered.
_REQUEST_TYPES: dict[int, type[Message]] = {
    _PRODUCE_KEY: messages.ProduceRequest,
    1: messages.FetchRequest,
    2: messages.ListOffsetsRequest,
    3: messages.MetadataRequest,
    8: coordination_messages.OffsetCommitRequest,
    9: coordination_messages.OffsetFetchRequest,
    10: coordination_messages.FindCoordinatorRequest,
    JOIN_GROUP_KEY: coordination_messages.JoinGroupRequest,
    12: coordination_messages.HeartbeatRequest,
    13: coordination_messages.LeaveGroupRequest,
    14: coordination_messages.SyncGroupRequest,
    15: coordination_messages.DescribeGroupsRequest,
    16: coordination_messages.ListGroupsRequest,
    API_VERSIONS_KEY: messages.ApiVersionsRequest,
    19: admin_messages.CreateTopicsRequest,
    20: admin_messages.DeleteTopicsRequest,
    21: admin_messages.DeleteRecordsRequest,
    22: coordination_messages.InitProducerIdRequest,
    24: coordination_messages.AddPartitionsToTxnRequest,
    25: coordination_messages.AddOffsetsToTxnRequest,
    26: coordination_messages.EndTxnRequest,
    28: coordination_messages.TxnOffsetCommitRequest,
    32: admin_messages.DescribeConfigsRequest,
    33: admin_messages.AlterConfigsRequest,
    37: admin_messages.CreatePartitionsRequest,
    42: coordination_messages.DeleteGroupsRequest,
}

# The versions offered: those whose codecs aiokafka 0.14 has right. Left out on purpose: produce below 3 and
# fetch below 4 (records older than v2), list offsets from 4 and describe groups 3 (wrong field types there).
_RANGES: dict[int, tuple[int, int]] = {
    _PRODUCE_KEY: (3, 8),
    1: (4, 11),
    2: (1, 3),
    3: (1, 5),
    8: (2, 3),
    9: (1, 3),
    10: (0, 1),
    JOIN_GROUP_KEY: (0, 5),
    12: (0, 1),
    13: (0, 1),
    14: (0, 3),
    15: (0, 2),
    16: (0, 1),
    API_VERSIONS_KEY: (0, 2),
    19: (0, 3),
    20: (0, 3),
    21: (0, 1),
    22: (0, 0),
    24: (0, 0),
    25: (0, 0),
    26: (0, 0),
    28: (0, 0),
    32: (0, 2),
    33: (0, 1),
    37: (0, 1),
    42: (0, 1),
}

# Versions that aiokafka never speaks, whose bytes are those of an older version it has.
_SAME_BYTES_AS = {
    (JOIN_GROUP_KEY, 3): (JOIN_GROUP_KEY, 2),
    (JOIN_GROUP_KEY, 4): (JOIN_GROUP_KEY, 2),
    (14, 2): (14, 1),
}

# Where the codecs' field names differ between versions or say something else, ours.
_STRING_NAMES = {
    "topics": "topic",
    "name": "topic",
    "config_key": "name",
    "config_name": "name",
    "config_names": "name",
    "config_value": "value",
    "consumer_group": "group",
    "group_id": "group",
    "consumer_id": "member_id",
}
_OTHER_NAMES = {
    "fetch_offset": "offset",
    "partition_index": "partition",
    "consumer_group_generation_id": "generation_id",
}


class RequestFrame(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded request with what its answer needs."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str
    request: Message

    @property
    def tells_member_ids(self) -> bool:
        """Whether a member that joins so must first be told its id (JoinGroup from version 4 on)."""
        return self.api_key == JOIN_GROUP_KEY and self.api_version >= _TELLS_MEMBER_IDS


def offered_ranges() -> list[ApiRange]:
    """List the kinds and versions of requests that can be decoded."""
    return [ApiRange(api_key=key, min_version=low, max_version=high) for key, (low, high) in _RANGES.items()]


def bytes_after(head: bytes) -> int:
    """Say how much of a frame follows its head; raise MalformedFrame beyond what its kind may have."""
    length, api_key = _FRAME_HEAD.unpack(head)
    length_max = FRAME_BYTES_MAX if api_key == _PRODUCE_KEY else REQUEST_BYTES_MAX
    if not _HEADER.size <= length <= length_max:
        raise MalformedFrame(f"api {api_key}: a frame of {length} bytes")
    return length + LENGTH_BYTES - FRAME_HEAD_BYTES


def decode_request(frame: bytes) -> RequestFrame:
    """Decode what follows a length; an ApiVersions request newer than offered becomes one of version 0."""
    api_key, api_version, correlation_id, client_id_bytes = _HEADER.unpack_from(frame)
    client_id_end = _HEADER.size + max(client_id_bytes, 0)
    try:
        client_id = frame[_HEADER.size : client_id_end].decode()
        request = _decode_body(api_key, api_version, frame[client_id_end:])
    except ValueError as exc:  # every decoding error of the codecs, of UTF-8 and of msgspec is one
        raise MalformedFrame(f"api {api_key} version {api_version}: {exc}"[:200]) from exc
    return RequestFrame(
        api_key=api_key,
        api_version=api_version,
        correlation_id=correlation_id,
        client_id=client_id,
        request=request,
    )


def encode_response(frame: RequestFrame, response: Message) -> bytes:
    """Encode the answer to `frame` in the frame's version, with its length prefix."""
    if frame.api_key == API_VERSIONS_KEY and not _is_offered(frame.api_key, frame.api_version):
        schema = _codec(API_VERSIONS_KEY, 0).RESPONSE_TYPE.SCHEMA
        response = ApiVersionsResponse(
            error_code=ErrorCode.UNSUPPORTED_VERSION, api_versions=offered_ranges()
        )
    else:
        schema = _codec(frame.api_key, frame.api_version).RESPONSE_TYPE.SCHEMA
    body = schema.encode(cast("Sequence[_Encodable]", _encodable(schema, response)))
    return struct.pack(">ii", len(body) + 4, frame.correlation_id) + body


def _is_offered(api_key: int, api_version: int) -> bool:
    low, high = _RANGES.get(api_key, (1, 0))
    return low <= api_version <= high


def _codec(api_key: int, api_version: int) -> type[RequestStruct]:
    return _CODECS[_SAME_BYTES_AS.get((api_key, api_version), (api_key, api_version))]


def _decode_body(api_key: int, api_version: int, body: bytes) -> Message:
    if api_key == API_VERSIONS_KEY and api_version >= _ADVANCED_API_VERSIONS:
        return ApiVersionsRequest()
    if not _is_offered(api_key, api_version):
        raise UnsupportedRequest(f"api {api_key} version {api_version}")
    schema = _codec(api_key, api_version).SCHEMA
    fields = _builtin(schema, cast("_Encodable", schema.decode(io.BytesIO(body))))
    return msgspec.convert(fields, _REQUEST_TYPES[api_key])


def _our_name(name: str, field_type: object) -> str:
    if isinstance(field_type, String):
        return _STRING_NAMES.get(name, name)
    return _OTHER_NAMES.get(name, name)


def _builtin(field_type: object, value: "_Encodable") -> "_Builtin":
    if isinstance(field_type, Schema) and isinstance(value, tuple):
        fields = zip(field_type.names, field_type.fields, value, strict=True)
        return {_our_name(name, kind): _builtin(kind, item) for name, kind, item in fields}
    if isinstance(field_type, Array) and isinstance(value, list):
        return [_builtin(field_type.array_of, item) for item in value]
    return cast("_Builtin", value)


def _encodable(field_type: object, value: object) -> "_Encodable":
    if isinstance(field_type, Schema):
        return tuple(
            _field(kind, value, _our_name(name, kind))
            for name, kind in zip(field_type.names, field_type.fields, strict=True)
        )
    if isinstance(field_type, Array) and isinstance(value, list):
        return [_encodable(field_type.array_of, item) for item in cast("list[object]", value)]
    return cast("_Encodable", value)


def _field(field_type: object, message: object, name: str) -> "_Encodable":
    """Read a field of an answer; one that our type does not have is empty on the wire."""
    if hasattr(message, name):
        return _encodable(field_type, getattr(message, name))
    if isinstance(field_type, Array):
        return []
    is_nullable = isinstance(field_type, String) or field_type is Bytes
    return None if is_nullable else 0


def _collect_codecs() -> dict[tuple[int, int], type[RequestStruct]]:
    codecs: dict[tuple[int, int], type[RequestStruct]] = {}
    modules = (admin, commit, coordination, fetch, group, metadata, offset, produce, transaction)
    for module in modules:
        for found in vars(module).values():
            if isinstance(found, type) and issubclass(found, RequestStruct) and found is not RequestStruct:
                codec: type[RequestStruct] = found
                codecs.setdefault((codec.API_KEY, codec.API_VERSION), codec)
    return codecs


_CODECS = _collect_codecs()
