"""Counts a prompt's tokens as read, written and plain; remembers cached prefixes and nothing else.

A token is four characters, rounded up per block. Blocks stand in the API's order: tools, system, messages.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from hashlib import blake2b

import msgspec

from services.local.anthropic.errors import ApiFault
from services.local.anthropic.request import CACHE_BREAKPOINTS_MAX, Block, CacheControl, MessagesRequest

CHARS_PER_TOKEN = 4
IMAGE_TOKENS = 1_500  # about what a full-size picture costs, whatever its bytes
DOCUMENT_TOKENS = 3_000  # about two pages

CACHED_PREFIXES_MAX = 10_000  # 16-byte digests, so about 2 MB
LOOKBACK_BLOCKS_MAX = 20  # as far behind a breakpoint as the real API looks for a cached prefix
DIGEST_BYTES = 16

_encoder = msgspec.json.Encoder()


class PromptTokens(msgspec.Struct, frozen=True, kw_only=True):
    """What a prompt costs, by how it met the cache; the four parts add up to the whole prompt."""

    plain: int
    read: int = 0
    written_5m: int = 0
    written_1h: int = 0

    @property
    def written(self) -> int:
        """Count what was written to the cache, whatever its lifetime."""
        return self.written_5m + self.written_1h

    @property
    def total(self) -> int:
        """Count the whole prompt."""
        return self.plain + self.read + self.written


class PromptCache:
    """Remembers which prefixes were seen, the least recently used forgotten first; time does not age them."""

    def __init__(self, prefixes_max: int = CACHED_PREFIXES_MAX) -> None:
        self._prefixes_max = prefixes_max
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def holds(self, prefix: bytes) -> bool:
        """Tell whether a prefix is cached, and keep it longer if it is."""
        if prefix not in self._seen:
            return False
        self._seen.move_to_end(prefix)
        return True

    def remember(self, prefix: bytes) -> None:
        """Cache a prefix, at the price of the least recently used one when full."""
        self._seen[prefix] = None
        self._seen.move_to_end(prefix)
        if len(self._seen) > self._prefixes_max:
            self._seen.popitem(last=False)


class _Piece(msgspec.Struct, frozen=True):
    tokens: int
    content: bytes
    ttl: str | None


def tokens_of_text(text: str) -> int:
    """Count the tokens of one piece of text."""
    return -(-len(text) // CHARS_PER_TOKEN)


def count_prompt(request: MessagesRequest) -> int:
    """Count the whole prompt, cached or not; at least 1."""
    total = sum(_block_tokens(block) for block in _blocks(request))
    return max(1, total)


def meet_cache(request: MessagesRequest, cache: PromptCache) -> PromptTokens:
    """Count a prompt against the cache, and leave its marked prefixes there."""
    if not _is_marked(request):
        return PromptTokens(plain=count_prompt(request))
    pieces = [_piece(block) for block in _blocks(request)]
    if request.cache_control is not None and pieces and pieces[-1].ttl is None:
        pieces[-1] = _Piece(pieces[-1].tokens, pieces[-1].content, request.cache_control.ttl)
    breakpoints = [position for position, piece in enumerate(pieces) if piece.ttl is not None]
    if not breakpoints:
        return PromptTokens(plain=count_prompt(request))
    if len(breakpoints) > CACHE_BREAKPOINTS_MAX:
        raise ApiFault(
            400,
            f"A maximum of {CACHE_BREAKPOINTS_MAX} blocks with cache_control may be provided."
            f" Found {len(breakpoints)}.",
        )
    digests = _prefix_digests(request.model, pieces[: breakpoints[-1] + 1])
    found = _furthest_cached(digests, breakpoints, cache)
    for position in breakpoints:
        cache.remember(digests[position])
    return _split(pieces, breakpoints, found)


def _is_marked(request: MessagesRequest) -> bool:
    return request.cache_control is not None or any(
        not isinstance(block, str) and "cache_control" in block for block in _blocks(request)
    )


def _blocks(request: MessagesRequest) -> Iterator[str | Block]:
    if request.tools:
        yield from request.tools
    if request.system:
        yield from _as_blocks(request.system)
    for message in request.messages:
        yield from _as_blocks(message.content)


def _as_blocks(content: str | list[Block]) -> Iterable[str | Block]:
    return (content,) if isinstance(content, str) else content


def _block_tokens(block: str | Block) -> int:
    if isinstance(block, str):
        return tokens_of_text(block)
    kind = block.get("type")
    if kind == "text":
        text = block.get("text")
        return tokens_of_text(text) if isinstance(text, str) else 0
    if kind == "image":
        return IMAGE_TOKENS
    if kind == "document":
        return DOCUMENT_TOKENS
    return tokens_of_text(_content(block).decode())


def _content(block: str | Block) -> bytes:
    if isinstance(block, str):
        # A string is short for one text block, so both forms of a prompt share their cached prefixes.
        block = {"type": "text", "text": block}
    return _encoder.encode({name: value for name, value in block.items() if name != "cache_control"})


def _piece(block: str | Block) -> _Piece:
    mark = None if isinstance(block, str) else block.get("cache_control")
    try:
        control = None if mark is None else msgspec.convert(mark, CacheControl)
    except msgspec.ValidationError as exc:
        raise ApiFault(400, "cache_control: Input does not match the expected shape.") from exc
    return _Piece(_block_tokens(block), _content(block), None if control is None else control.ttl)


def _prefix_digests(model: str, pieces: list[_Piece]) -> list[bytes]:
    running = blake2b(model.encode(), digest_size=DIGEST_BYTES)
    digests: list[bytes] = []
    for piece in pieces:
        running.update(b"%d:" % len(piece.content))
        running.update(piece.content)
        digests.append(running.copy().digest())
    return digests


def _furthest_cached(digests: list[bytes], breakpoints: list[int], cache: PromptCache) -> int:
    """Find the last position whose prefix is cached and is near enough before a breakpoint, or -1."""
    for position in reversed(breakpoints):
        for candidate in range(position, max(-1, position - LOOKBACK_BLOCKS_MAX), -1):
            if cache.holds(digests[candidate]):
                return candidate
    return -1


def _split(pieces: list[_Piece], breakpoints: list[int], found: int) -> PromptTokens:
    read = sum(piece.tokens for piece in pieces[: found + 1])
    written = {"5m": 0, "1h": 0}
    start = found + 1
    for position in breakpoints:
        if position < start:
            continue
        written[pieces[position].ttl or "5m"] += sum(piece.tokens for piece in pieces[start : position + 1])
        start = position + 1
    return PromptTokens(
        plain=sum(piece.tokens for piece in pieces[start:]),
        read=read,
        written_5m=written["5m"],
        written_1h=written["1h"],
    )
