"""The tap's copy of an answer is decoded as it passes, whatever the chunks, and never without a bound."""

import gzip
import zlib

import brotli
import pytest
from backports import zstd

from services.edge.tap.codings import DECODED_BYTES_MAX, MIB, PIECE_BYTES_MAX, CannotDecode, decoder_for

TEXT = b'event: message_start\ndata: {"type":"message_start"}      \n\n' * 300


def raw_deflate(data):
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


ENCODED = {
    "": TEXT,
    "identity": TEXT,
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT),
    " GZip ": gzip.compress(TEXT),
    "deflate": zlib.compress(TEXT),
    "Deflate": raw_deflate(TEXT),
    "br": brotli.compress(TEXT),
    "zstd": zstd.compress(TEXT),
}


def decoded(coding, encoded, chunk_bytes):
    decoder = decoder_for(coding)
    chunks = [encoded[at : at + chunk_bytes] for at in range(0, len(encoded), chunk_bytes)]
    return b"".join(piece for chunk in chunks for piece in decoder.decode(chunk))


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 64, 1 << 20])
@pytest.mark.parametrize("coding", ENCODED)
def test_every_coding_is_read_in_chunks_of_any_size(coding, chunk_bytes):
    assert decoded(coding, ENCODED[coding], chunk_bytes) == TEXT


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
def test_gzip_goes_on_with_the_next_member(chunk_bytes):
    members = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")
    assert decoded("gzip", members, chunk_bytes) == b"one two"


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
def test_zstd_goes_on_with_the_next_frame(chunk_bytes):
    frames = zstd.compress(b"one ") + zstd.compress(b"two")
    assert decoded("zstd", frames, chunk_bytes) == b"one two"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_what_was_flushed_is_read_before_the_stream_ends(coding):
    compressors = {
        "gzip": lambda: zlib.compressobj(wbits=31),
        "deflate": zlib.compressobj,
        "br": brotli.Compressor,
        "zstd": zstd.ZstdCompressor,
    }
    stream = compressors[coding]()
    decoder = decoder_for(coding)
    for event in (b"event: a\n\n", b"event: b\n\n"):
        if coding == "br":
            flushed = stream.process(event) + stream.flush()
        elif coding == "zstd":
            flushed = stream.compress(event, mode=zstd.ZstdCompressor.FLUSH_BLOCK)
        else:
            flushed = stream.compress(event) + stream.flush(zlib.Z_SYNC_FLUSH)
        assert b"".join(decoder.decode(flushed)) == event


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_an_empty_chunk_decodes_to_nothing_wherever_it_comes(coding):
    encoded = {**ENCODED, "deflate": zlib.compress(TEXT)}[coding]
    decoder = decoder_for(coding)
    chunks = (b"", encoded[:10], b"", encoded[10:], b"")
    assert b"".join(piece for chunk in chunks for piece in decoder.decode(chunk)) == TEXT


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_what_is_not_what_it_claims_to_be_cannot_be_decoded(coding, chunk_bytes):
    with pytest.raises(CannotDecode) as caught:
        decoded(coding, b"\xff\xfe This is plain text, and no compressed stream at all. " * 20, chunk_bytes)
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_stream_that_is_damaged_on_the_way_cannot_be_decoded(coding):
    damaged = bytearray(ENCODED[coding])
    damaged[12:] = b"\xff" * (len(damaged) - 12)
    with pytest.raises(CannotDecode):
        decoded(coding, bytes(damaged), 1 << 20)


@pytest.mark.parametrize(("window_log", "is_read"), [(23, True), (24, False), (27, False)])
def test_zstd_is_read_with_the_window_that_http_allows(window_log, is_read):
    parameter = zstd.CompressionParameter
    packer = zstd.ZstdCompressor(options={parameter.window_log: window_log, parameter.content_size_flag: 0})
    packed = packer.compress(TEXT, mode=zstd.ZstdCompressor.FLUSH_BLOCK) + packer.flush()
    if is_read:
        assert decoded("zstd", packed, 64) == TEXT
    else:
        with pytest.raises(CannotDecode):
            decoded("zstd", packed, 64)


@pytest.mark.parametrize("coding", ["compress", "gzip, br", "identity, gzip", "aws-chunked"])
def test_a_coding_that_is_not_known_is_named_as_such(coding):
    with pytest.raises(CannotDecode) as caught:
        decoder_for(coding)
    assert caught.value.reason == "unknown_coding"


BROTLI_BLOCK_BYTES_MAX = 17 * MIB
ZEROS = bytes(8 * MIB)


def bomb_of(coding):
    """A little more than the bound in zeros; small enough to be made in a moment."""
    steps = DECODED_BYTES_MAX // len(ZEROS) + 1
    if coding == "br":
        stream = brotli.Compressor(quality=1)
        return b"".join([*(stream.process(ZEROS) for _ in range(steps)), stream.finish()])
    if coding == "deflate":
        deflate = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        one = deflate.compress(ZEROS) + deflate.flush(zlib.Z_FULL_FLUSH)  # may be repeated as it is
        return one * steps
    one = gzip.compress(ZEROS, 1) if coding == "gzip" else zstd.compress(ZEROS)
    return one * steps


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_is_given_up_at_the_bound(coding):
    bomb = bomb_of(coding)
    assert len(bomb) < DECODED_BYTES_MAX // 100
    decoder = decoder_for(coding)
    largest = BROTLI_BLOCK_BYTES_MAX if coding == "br" else PIECE_BYTES_MAX
    decoded_bytes = 0
    with pytest.raises(CannotDecode) as caught:
        for at in range(0, len(bomb), 64):
            for piece in decoder.decode(bomb[at : at + 64]):
                assert len(piece) <= largest
                decoded_bytes += len(piece)
    assert caught.value.reason == "too_large"
    assert DECODED_BYTES_MAX - largest <= decoded_bytes <= DECODED_BYTES_MAX
