"""Bodies come in frames, may be broken and may be bombs; every coding goes both ways."""

import gzip
import zlib

import lz4.frame
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from services.local.clickhouse.encodings import choose_coding, decode_body, open_encoder
from services.local.clickhouse.errors import ErrorCode, QueryFailed

ENOUGH_BYTES = 64 * 1024**2
COMPRESS = {"lz4": lz4.frame.compress, "zstd": zstd.compress, "gzip": gzip.compress}
CODINGS = sorted(COMPRESS)


@pytest.mark.parametrize("coding", CODINGS)
@given(blocks=st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_every_frame_of_a_body_is_decoded(coding, blocks):
    """Clients compress block by block: a decoder that stops at the first frame loses rows in silence."""
    body = b"".join(COMPRESS[coding](block) for block in blocks)
    assert decode_body(body, coding, ENOUGH_BYTES) == b"".join(blocks)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_frame_larger_than_one_step_is_decoded_whole(coding):
    block = bytes(range(256)) * 50_000
    assert decode_body(COMPRESS[coding](block) * 2, coding, ENOUGH_BYTES) == block * 2


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_that_ends_too_early_is_refused(coding):
    whole = COMPRESS[coding](b"block" * 1000)
    for end in (1, len(whole) // 2, len(whole) - 1):
        assert code_of(whole[:end], coding) == ErrorCode.CANNOT_DECOMPRESS


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_that_is_not_what_it_says_is_refused(coding):
    assert code_of(b"SELECT 1, not compressed at all", coding) == ErrorCode.CANNOT_DECOMPRESS
    assert code_of(COMPRESS[coding](b"block") + b"SELECT 1 and more", coding) == ErrorCode.CANNOT_DECOMPRESS


@pytest.mark.parametrize("coding", CODINGS)
def test_a_small_body_that_decodes_to_too_much_is_refused(coding):
    assert code_of(COMPRESS[coding](bytes(20 * 1024**2)), coding, 1024**2) == ErrorCode.QUERY_IS_TOO_LARGE


def test_an_unknown_coding_is_refused_and_no_coding_is_none():
    assert code_of(b"x", "br") == ErrorCode.BAD_ARGUMENTS
    assert decode_body(b"x", "", 1) == decode_body(b"x", "identity", 1) == b"x"


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", "identity"),
        ("br", "identity"),
        ("gzip, deflate", "gzip"),
        ("zstd,lz4,br,gzip,deflate", "lz4"),
        ("ZSTD;q=1.0, gzip;q=0.5", "zstd"),
    ],
)
def test_the_cheapest_accepted_coding_is_chosen(accepted, chosen):
    assert choose_coding(accepted) == chosen


@pytest.mark.parametrize("coding", ["identity", *CODINGS])
@given(pieces=st.lists(st.binary(max_size=300), max_size=5))
def test_a_result_that_was_encoded_in_pieces_is_one_frame(coding, pieces):
    encoder = open_encoder(coding)
    encoded = b"".join(encoder.encode(piece) for piece in pieces) + encoder.finish()
    decode = {
        "identity": bytes,
        "lz4": lz4.frame.decompress,
        "zstd": zstd.decompress,
        "gzip": lambda body: zlib.decompress(body, wbits=31),
    }
    assert decode[coding](encoded) == b"".join(pieces)


def code_of(body, coding, bytes_max=ENOUGH_BYTES):
    with pytest.raises(QueryFailed) as refusal:
        decode_body(body, coding, bytes_max)
    return refusal.value.code
