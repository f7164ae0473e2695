"""Reads a request body through its content coding, within a bound; what is not changed goes up as it came."""

from typing import NamedTuple

from services.edge.body import BodyView, read_body
from services.edge.registry.aliases import NO_ALIASES, Aliases
from services.edge.tap.codings import CannotDecode, decoder_for

# Given to a decoder at once; what stands behind a finished gzip member is copied once for each member.
STEP_BYTES = 16 * 1024


class DecodedTooLarge(Exception):
    """The body decodes to more than the gateway reads."""


class ReadBody(NamedTuple):
    """What a body says and what goes up; `is_decoded` where that is without the coding it came in."""

    view: BodyView
    content: bytes
    is_decoded: bool = False


def read_coded_body(
    came: bytes, coding: str, bytes_max: int, aliases: Aliases = NO_ALIASES, *, every_model: bool = False
) -> ReadBody:
    """Read a body in any content coding; DecodedTooLarge where it decodes to more than `bytes_max`.

    A coding that we do not know, or that the body is not in, is upstream's to answer for.
    """
    try:
        plain = came if coding.lower() in ("", "identity") else _decoded(came, coding, bytes_max)
    except CannotDecode:
        return ReadBody(BodyView(), came)
    view, content = read_body(plain, aliases, every_model=every_model)
    is_changed = content is not plain  # by its length it cannot be told: one name may be as long as another
    return ReadBody(view, content if is_changed else came, is_changed and plain is not came)


def _decoded(came: bytes, coding: str, bytes_max: int) -> bytes:
    decoder = decoder_for(coding)
    pieces: list[bytes] = []
    size = 0
    for at in range(0, len(came), STEP_BYTES):
        for piece in decoder.decode(came[at : at + STEP_BYTES]):
            size += len(piece)
            if size > bytes_max:
                raise DecodedTooLarge
            pieces.append(piece)
    return b"".join(pieces)
