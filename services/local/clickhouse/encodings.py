"""Decodes request bodies within a bound and encodes response bodies (lz4, zstd, gzip); knows no SQL."""

import sys
import zlib
from collections.abc import Callable
from typing import Literal, Protocol

from services.local.clickhouse.errors import ErrorCode, refused
from services.local.clickhouse.extra import lz4_compressor, lz4_decompressor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Coding = Literal["identity", "lz4", "zstd", "gzip"]

GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
# What a decoder is asked for at a time: a small body cannot blow up far beyond the bound before it is seen.
DECODE_STEP_BYTES = 4 * 1024**2
# On loopback time is dearer than bytes.
ZSTD_LEVEL = 1
GZIP_LEVEL = 1


class Encoder(Protocol):
    """Encodes a body piece by piece."""

    def encode(self, piece: bytes) -> bytes:
        """Encode a piece; the answer may be empty."""
        ...

    def finish(self) -> bytes:
        """Give what is left to send."""
        ...


class _Decoder(Protocol):
    """Decodes one frame; what follows it is left in `unused_data`."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def decode_body(body: bytes, coding: str, bytes_max: int) -> bytes:
    """Decode a request body of any number of frames, or refuse one that is broken or too large."""
    if coding in ("", "identity"):
        return body
    open_decoder = DECODERS.get(coding)
    if open_decoder is None:
        raise refused(ErrorCode.BAD_ARGUMENTS, f"Content-Encoding {coding!r} is not one of: lz4, zstd, gzip.")
    try:
        return _decode_frames(body, open_decoder, bytes_max)
    except (RuntimeError, zlib.error, zstd.ZstdError, EOFError) as exc:
        raise refused(ErrorCode.CANNOT_DECOMPRESS, f"The body is not valid {coding}: {exc}.") from exc


def choose_coding(accept_encoding: str) -> Coding:
    """Choose the cheapest coding that a client accepts for the response."""
    offered = {item.split(";", 1)[0].strip().lower() for item in accept_encoding.split(",")}
    for coding in ("lz4", "zstd", "gzip"):
        if coding in offered:
            return coding
    return "identity"


def open_encoder(coding: Coding) -> Encoder:
    """Start encoding one response body."""
    match coding:
        case "identity":
            return _Identity()
        case "lz4":
            return _Lz4()
        case "zstd":
            return _Zstd()
        case "gzip":
            return _Gzip()


def _decode_frames(body: bytes, open_decoder: Callable[[], _Decoder], bytes_max: int) -> bytes:
    # Clients send one frame per block: a decoder stops at the end of the first and leaves the rest unread.
    pieces: list[bytes] = []
    decoded_bytes = 0
    left = body
    while left:
        decoder = open_decoder()
        fed = left
        while not decoder.eof:
            if not fed and decoder.needs_input:
                raise EOFError("it ends in the middle of a frame")
            piece = decoder.decompress(fed, DECODE_STEP_BYTES)
            fed = b""
            pieces.append(piece)
            decoded_bytes += len(piece)
            if decoded_bytes > bytes_max:
                raise refused(
                    ErrorCode.QUERY_IS_TOO_LARGE, f"The body decodes to more than {bytes_max} bytes."
                )
        left = decoder.unused_data or b""
    return b"".join(pieces)


class _GzipDecoder:
    """Gives zlib's decoder the face that the standard library gives its other decoders."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=GZIP_WINDOW_BITS)
        self._output_pending = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail and not self._output_pending

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        piece = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # zlib may have swallowed all the input and still hold output that did not fit.
        self._output_pending = len(piece) == max_length
        return piece


DECODERS: dict[str, Callable[[], _Decoder]] = {
    "lz4": lz4_decompressor,
    "zstd": zstd.ZstdDecompressor,
    "gzip": _GzipDecoder,
}


class _Identity:
    def encode(self, piece: bytes) -> bytes:
        return piece

    def finish(self) -> bytes:
        return b""


class _Lz4:
    def __init__(self) -> None:
        self._inner = lz4_compressor()
        self._opening = self._inner.begin()

    def encode(self, piece: bytes) -> bytes:
        opening, self._opening = self._opening, b""
        return opening + self._inner.compress(piece)

    def finish(self) -> bytes:
        return self._opening + self._inner.flush()


class _Zstd:
    def __init__(self) -> None:
        self._inner = zstd.ZstdCompressor(level=ZSTD_LEVEL)

    def encode(self, piece: bytes) -> bytes:
        return self._inner.compress(piece)

    def finish(self) -> bytes:
        return self._inner.flush()


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.compressobj(level=GZIP_LEVEL, wbits=GZIP_WINDOW_BITS)

    def encode(self, piece: bytes) -> bytes:
        return self._inner.compress(piece)

    def finish(self) -> bytes:
        return self._inner.flush()
