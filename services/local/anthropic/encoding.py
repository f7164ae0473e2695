"""Compresses replies chunk by chunk and reads compressed requests; never decides whether either happens."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# brotli ships no types.

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from mmap import mmap

import brotli

from services.local.anthropic.directives import ContentCoding
from services.local.anthropic.errors import ApiFault

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP_WINDOW_BITS = 31
ZLIB_WINDOW_BITS = 15
ANY_WINDOW_BITS = 47  # gzip or zlib, as the first bytes say
COMPRESSION_LEVEL = 6
BROTLI_QUALITY = 5


def compress_chunks(chunks: Iterable[bytes], coding: ContentCoding, *, finish: bool) -> list[bytes]:
    """Compress each chunk so that it can be read when it arrives; `finish` adds what ends the coding."""
    write, end = _COMPRESSORS[coding]()
    compressed = [write(chunk) for chunk in chunks]
    if not finish:
        return compressed
    # The end goes with the last chunk, as a server that knows its last chunk would send it.
    return [*compressed[:-1], (compressed[-1] if compressed else b"") + end()]


def compress_pieces(pieces: Iterable[bytes], coding: ContentCoding) -> Iterator[bytes]:
    """Compress a body that is not at hand as a whole, a piece as it comes."""
    write, end = _COMPRESSORS[coding]()
    for piece in pieces:
        yield write(piece)
    yield end()


def read_compressed(body: bytes | mmap, coding: str, bytes_max: int) -> bytes | mmap:
    """Undo the content-encoding of a request body, to at most the limit of an uncompressed one."""
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "deflate"):
        raise ApiFault(400, f"Unsupported content-encoding: {coding}")
    reader = zlib.decompressobj(ANY_WINDOW_BITS)
    try:
        plain = reader.decompress(body, bytes_max + 1)
    except zlib.error as exc:
        raise ApiFault(400, f"The request body is not valid {coding}") from exc
    if len(plain) > bytes_max:
        raise ApiFault(413)
    if not reader.eof:
        raise ApiFault(400, f"The request body is not valid {coding}")
    return plain


_Compressor = tuple[Callable[[bytes], bytes], Callable[[], bytes]]


def _zlib(window_bits: int) -> _Compressor:
    compressor = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, window_bits)

    def write(chunk: bytes) -> bytes:
        return compressor.compress(chunk) + compressor.flush(zlib.Z_SYNC_FLUSH)

    return write, compressor.flush


def _brotli() -> _Compressor:
    compressor = brotli.Compressor(quality=BROTLI_QUALITY)

    def write(chunk: bytes) -> bytes:
        return compressor.process(chunk) + compressor.flush()

    return write, compressor.finish


def _zstd() -> _Compressor:
    compressor = zstd.ZstdCompressor()

    def write(chunk: bytes) -> bytes:
        return compressor.compress(chunk, zstd.ZstdCompressor.FLUSH_BLOCK)

    return write, compressor.flush


_COMPRESSORS: dict[ContentCoding, Callable[[], _Compressor]] = {
    "gzip": lambda: _zlib(GZIP_WINDOW_BITS),
    "deflate": lambda: _zlib(ZLIB_WINDOW_BITS),
    "br": _brotli,
    "zstd": _zstd,
}
