"""Decodes a copy of an answer's content coding as it passes, within a bound; the client gets the original."""

# brotli ships no annotations.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import brotli
from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

MIB = 1024 * 1024
# What one exchange may decode to: far above any answer, far below what a compression bomb claims.
DECODED_BYTES_MAX = 512 * MIB
# What is in memory at once, however much a chunk of a few bytes claims to be. brotli takes it as advice:
# it gives out the blocks that it has written, which are up to 16 MiB.
PIECE_BYTES_MAX = 1 * MIB
ZLIB_HEAD_BYTES = 2
# RFC 9659: what a decoder must keep for zstd over HTTP, 8 MiB; a frame may ask for 128 MiB and more.
ZSTD_WINDOW_LOG_MAX = 23


class CannotDecode(Exception):
    """The copy cannot be read on; `reason` is the label of the tap's counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Decoder(Protocol):
    """One content coding, incrementally."""

    def decode(self, chunk: bytes) -> Iterable[bytes]:
        """Give what the chunk decodes to, in pieces; to be taken to its end before the next chunk.

        CannotDecode where it is not what it claims to be, or too much.
        """
        ...


class Identity:
    """No coding."""

    def decode(self, chunk: bytes) -> Iterable[bytes]:
        """Give the chunk."""
        return (chunk,)


class Zlib:
    """gzip, and deflate with or without zlib's wrapping."""

    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)
        self._budget = _Budget()
        self._may_be_raw = window_bits == zlib.MAX_WBITS
        self._head = b""

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Inflate the chunk; a second gzip member goes on where the first one ended."""
        if self._may_be_raw:
            # zlib's wrapping shows in its first two bytes, and in neither of them alone.
            self._head = chunk = self._head + chunk
            if len(chunk) < ZLIB_HEAD_BYTES:
                return
        while chunk:
            piece = self._inflated(chunk)
            self._budget.spend(len(piece))
            if piece:
                yield piece
            chunk = self._stream.unconsumed_tail
            if not chunk and self._stream.eof and self._stream.unused_data:
                chunk = self._stream.unused_data
                self._stream = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def _inflated(self, chunk: bytes) -> bytes:
        try:
            piece = self._stream.decompress(chunk, PIECE_BYTES_MAX)
        except zlib.error as exc:
            if not self._may_be_raw:
                raise CannotDecode("undecodable") from exc
            self._may_be_raw = False
            self._stream = zlib.decompressobj(-zlib.MAX_WBITS)  # deflate without its wrapping
            return self._inflated(chunk)
        self._may_be_raw = False
        return piece


class Brotli:
    """br."""

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()
        self._budget = _Budget()

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Decompress the chunk, a bounded step at a time."""
        while piece := self._decompressed(chunk):
            self._budget.spend(len(piece))
            yield piece
            chunk = b""

    def _decompressed(self, chunk: bytes) -> bytes:
        try:
            return self._stream.process(chunk, output_buffer_limit=PIECE_BYTES_MAX)
        except brotli.error as exc:
            raise CannotDecode("undecodable") from exc


class Zstd:
    """zstd."""

    def __init__(self) -> None:
        self._stream = _zstd_frame()
        self._budget = _Budget()

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Decompress the chunk, a bounded step at a time, frame after frame."""
        while chunk or not (self._stream.needs_input or self._stream.eof):
            if self._stream.eof:
                self._stream = _zstd_frame()
            piece = self._decompressed(chunk)
            self._budget.spend(len(piece))
            if piece:
                yield piece
            chunk = self._stream.unused_data if self._stream.eof else b""

    def _decompressed(self, chunk: bytes) -> bytes:
        try:
            return self._stream.decompress(chunk, max_length=PIECE_BYTES_MAX)
        except ZstdError as exc:
            raise CannotDecode("undecodable") from exc


def _zstd_frame() -> ZstdDecompressor:
    return ZstdDecompressor(options={DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG_MAX})


class _Budget:
    def __init__(self) -> None:
        self._left = DECODED_BYTES_MAX

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise CannotDecode("too_large")


_DECODERS: dict[str, Callable[[], Decoder]] = {
    "": Identity,
    "identity": Identity,
    "gzip": lambda: Zlib(zlib.MAX_WBITS | 16),
    "x-gzip": lambda: Zlib(zlib.MAX_WBITS | 16),
    "deflate": lambda: Zlib(zlib.MAX_WBITS),
    "br": Brotli,
    "zstd": Zstd,
}


def decoder_for(content_encoding: str) -> Decoder:
    """Choose by Content-Encoding; CannotDecode for a coding, or a stack of them, that we do not know."""
    known = _DECODERS.get(content_encoding.strip().lower())
    if known is None:
        raise CannotDecode("unknown_coding")
    return known()
