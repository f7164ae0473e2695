import struct

import msgspec
import pytest

from services.local.kafka import wire
from services.local.kafka.admin_messages import DescribeConfigsResponse, DescribedConfig, DescribedResource
from services.local.kafka.coordination_messages import FindCoordinatorResponse
from services.local.kafka.errors import MalformedFrame, UnsupportedRequest
from services.local.kafka.messages import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    FetchRequest,
    MetadataRequest,
    PartitionFetch,
    TopicFetch,
)

# Join requests below and at version 5, which names static members.
JOIN = (("g", 6_000, 1_000, "", "consumer", []), ("g", 6_000, 1_000, "", None, "consumer", []))


def frame(key, version, body=b"", correlation=7, client=b"me"):
    return struct.pack(">hhih", key, version, correlation, len(client)) + client + body


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def test_a_fetch_means_the_same_in_every_version():
    partition = {
        4: struct.pack(">iqi", 3, 99, 1_000),
        5: struct.pack(">iqqi", 3, 99, -1, 1_000),
        9: struct.pack(">iiqqi", 3, -1, 99, -1, 1_000),
    }
    session = struct.pack(">ii", 0, -1)
    bodies = {
        4: (b"", partition[4], b""),
        5: (b"", partition[5], b""),
        7: (session, partition[5], struct.pack(">i", 0)),
        11: (session, partition[9], struct.pack(">i", 0) + string("")),
    }
    expected = FetchRequest(
        max_wait_time=500,
        min_bytes=1,
        max_bytes=5_000,
        isolation_level=1,
        topics=[TopicFetch(topic="t", partitions=[PartitionFetch(partition=3, offset=99, max_bytes=1_000)])],
    )

    decoded = {}
    for version, (before, item, after) in bodies.items():
        head = struct.pack(">iiiib", -1, 500, 1, 5_000, 1)
        topics = struct.pack(">i", 1) + string("t") + struct.pack(">i", 1) + item
        decoded[version] = wire.decode_request(frame(1, version, head + before + topics + after)).request

    assert decoded == dict.fromkeys(bodies, expected)


def test_every_version_on_offer_has_a_codec():
    for offered in wire.offered_ranges():
        for version in range(offered.min_version, offered.max_version + 1):
            try:
                wire.decode_request(frame(offered.api_key, version))
            except MalformedFrame:
                continue  # an empty body is no request of most kinds


def test_an_api_versions_request_from_the_future_is_answered_with_what_is_offered():
    decoded = wire.decode_request(frame(18, 4, b"\x00garbage"))

    answer = wire.encode_response(decoded, ApiVersionsResponse(api_versions=[]))

    length, correlation, code, count = struct.unpack_from(">iihi", answer)
    assert decoded.request == ApiVersionsRequest()
    assert (length, correlation, code, count) == (len(answer) - 4, 7, 35, len(wire.offered_ranges()))
    assert len(answer) == 14 + 6 * count


@pytest.mark.parametrize(
    ("key", "version"), [(0, 2), (0, 9), (1, 12), (3, 0), (23, 0), (999, 0), (-1, 0), (3, -1)]
)
def test_what_is_not_on_offer_is_named(key, version):
    with pytest.raises(UnsupportedRequest, match=f"api {key} version {version}"):
        wire.decode_request(frame(key, version))


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", struct.pack(">i", 2**31 - 1), struct.pack(">i", 1) + struct.pack(">h", 30_000) + b"short"],
)
def test_bodies_that_do_not_decode_are_malformed(body):
    with pytest.raises(MalformedFrame):
        wire.decode_request(frame(3, 1, body))


@pytest.mark.parametrize(
    ("length", "api_key"),
    [
        *((length, api_key) for length in (-1, 0, 9, 2**31 - 1) for api_key in (0, 3)),
        (wire.FRAME_BYTES_MAX + 1, 0),
        (wire.REQUEST_BYTES_MAX + 1, 3),
    ],
)
def test_frames_of_impossible_lengths_are_malformed(length, api_key):
    with pytest.raises(MalformedFrame):
        wire.bytes_after(struct.pack(">ih", length, api_key))


def test_only_records_may_come_in_large_frames():
    lengths = ((wire.FRAME_BYTES_MAX, 0), (wire.REQUEST_BYTES_MAX, 3), (10, 18))

    rests = [wire.bytes_after(struct.pack(">ih", length, api_key)) for length, api_key in lengths]

    # The kind of request is a part of the frame, and has been read.
    assert rests == [length - 2 for length, _ in lengths]


@pytest.mark.parametrize(("version", "tells"), [(3, False), (4, True), (5, True)])
def test_members_are_told_their_ids_from_the_fourth_version_on(version, tells):
    data = frame(11, version, wire._codec(11, version).SCHEMA.encode(JOIN[version == 5]))

    assert wire.decode_request(data).tells_member_ids is tells


def test_null_and_empty_topics_are_told_apart():
    requests = [wire.decode_request(frame(3, 1, struct.pack(">i", count))).request for count in (-1, 0)]

    assert requests == [MetadataRequest(topics=None), MetadataRequest(topics=[])]


def test_fields_that_an_answer_lacks_are_empty_on_the_wire():
    request = wire.decode_request(frame(10, 1, string("g") + b"\x00"))

    answer = wire.encode_response(request, FindCoordinatorResponse(coordinator_id=1, host="h", port=2))

    assert answer[8:] == struct.pack(">ihhi", 0, 0, -1, 1) + string("h") + struct.pack(">i", 2)


def test_configs_are_described_in_old_and_new_versions():
    config = DescribedConfig(name="a", value="b", read_only=False, is_default=True, config_source=5)
    resource = DescribedResource(resource_type=2, resource_name="t", config_entries=[config])
    body = struct.pack(">i", 0)
    answers = [
        wire.encode_response(
            wire.decode_request(frame(32, version, body + (b"\x00" if version else b""))),
            DescribeConfigsResponse(resources=[resource]),
        )
        for version in (0, 1)
    ]

    head = (
        struct.pack(">iihhb", 0, 1, 0, -1, 2) + string("t") + struct.pack(">i", 1) + string("a") + string("b")
    )
    assert answers[0][8:] == head + struct.pack(">bbb", 0, 1, 0)
    assert answers[1][8:] == head + struct.pack(">bbbi", 0, 5, 0, 0)


def test_messages_are_values():
    request = MetadataRequest(topics=["t"])

    assert msgspec.structs.replace(request, topics=None) == MetadataRequest(topics=None)
