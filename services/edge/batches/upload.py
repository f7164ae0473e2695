"""Keeps the body of a create call in a file without a name, and reads it on the way.

Beside it lies what items say of themselves, in a second such file: neither is ever in memory as a whole, and
both are gone when the process is.
Everything here may wait for the disk, so that it is called beside the event loop.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from schemas.attribution import Attribution
from schemas.batches import BatchItem
from schemas.ids import VirtualKeyId
from services.edge.attribution import attribute, without_end_user
from services.edge.batches.edits import Edits
from services.edge.batches.item import ItemView
from services.edge.batches.scan import CannotTake, CreateScan, CreateView
from services.edge.registry.aliases import NO_ALIASES, Aliases
from services.edge.tap.codings import CannotDecode, Decoder, decoder_for
from services.runtime import metrics

# What is read from a file at once, and given to a decoder.
READ_BYTES = 256 * 1024
STEP_BYTES = 16 * 1024
# Of a fact's items: a record has at most 512 KiB, its envelope, key and batch id in it.
CHUNK_BYTES_MAX = 500 * 1024
# All items of one batch: 100,000 of 600 bytes. Facts go into the spool, which holds other exchanges as well.
ITEMS_BYTES_MAX = 64 * 1024 * 1024

_ENCODE = msgspec.json.Encoder().encode
_ITEMS = msgspec.json.Decoder(tuple[BatchItem, ...])


class UploadTooLarge(Exception):
    """The body decodes to more than the gateway takes."""


class EndUserBlocked(CannotTake):
    """An item is for an end user who is blocked; the text is the item's path."""


def nobody(_: str) -> bool:
    """Say of every end user that nobody is blocked."""
    return False


class UploadLimits(NamedTuple):
    """Of one value of the body, of all of it without its coding; and whether end users may be kept."""

    value_bytes_max: int
    plain_bytes_max: int
    has_end_users: bool = True


class ItemRules(NamedTuple):
    """What the caller's key and the registry say of each item.

    `is_blocked` is asked for every item that names an end user, in a thread beside the event loop. With
    `every_model` also the models count that an item names beside its own.
    """

    aliases: Aliases = NO_ALIASES
    is_blocked: Callable[[str], bool] = nobody
    every_model: bool = False


NO_RULES = ItemRules()


class Upload:
    """One body: `take` what comes, `end` it, and read it back as it goes up; `close` forgets it."""

    def __init__(
        self, directory: Path, coding: str, limits: UploadLimits, rules: ItemRules = NO_RULES
    ) -> None:
        self._scan = CreateScan(limits.value_bytes_max, rules.aliases, every_model=rules.every_model)
        self._limits = limits
        self._is_blocked = rules.is_blocked
        self._coding = coding
        self._decoder: Decoder | None = _decoder(coding)
        self._file: BinaryIO = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed by `close`
        self._items = _ItemsFile(directory)
        self._edits = Edits()
        self._plain_bytes = 0
        self._items_seen = 0
        self.came_bytes = 0
        self.view = CreateView()

    @property
    def file_bytes(self) -> int:
        """What lies on disk."""
        return self.came_bytes + self._items.size

    @property
    def held_bytes(self) -> int:
        """What is in memory."""
        return self._scan.held + self._edits.held

    @property
    def is_changed(self) -> bool:
        """Whether something of it does not go up as it came; it then goes up without its coding."""
        return len(self._edits) > 0

    @property
    def is_decoded(self) -> bool:
        """Whether it goes up without the coding that it came in."""
        return self.is_changed and not _is_plain(self._coding)

    @property
    def up_bytes(self) -> int:
        """How long it is as it goes up."""
        return self._plain_bytes + self._edits.growth if self.is_changed else self.came_bytes

    @property
    def item_chunks(self) -> int:
        """How many portions `items` gives."""
        return len(self._items.ends)

    def take(self, piece: bytes) -> None:
        """Write down what has come, and read it; CannotTake or UploadTooLarge where it may not go up."""
        _write(self._file, piece)
        self.came_bytes += len(piece)
        for at in range(0, len(piece), STEP_BYTES):
            self._read(piece[at : at + STEP_BYTES])

    def end(self) -> None:
        """Say that the body is complete."""
        if self._decoder is not None:
            self._note(self._scan.end())
            self.view, self._edits = self._scan.view(), self._scan.take_edits()
        self._items.end()
        if not self.view.is_read:
            self._items.ends.clear()

    def pieces(self) -> Iterator[bytes]:
        """Give what goes up."""
        return self._edits.applied(self._plain()) if self.is_changed else self._came()

    def items(self) -> Iterator[tuple[BatchItem, ...]]:
        """Give the items with an attribution of their own, a portion at a time."""
        return self._items.chunks()

    def close(self) -> None:
        """Give the files back."""
        self._file.close()
        self._items.close()

    def _read(self, piece: bytes) -> None:
        if self._decoder is None:
            return
        try:
            for plain in self._decoder.decode(piece):
                self._plain_bytes += len(plain)
                if self._plain_bytes > self._limits.plain_bytes_max:
                    raise UploadTooLarge
                self._note(self._scan.feed(plain))
        except CannotDecode as exc:
            if exc.reason == "too_large":
                raise UploadTooLarge from exc
            self._decoder = None  # upstream answers for a body that is not in its coding

    def _note(self, found: Iterable[ItemView]) -> None:
        for each in found:
            params = each.params
            if params.litellm_metadata or params.user_id or params.is_metadata_too_long:
                # As if it were a message: by its metadata and its user id.
                own = attribute(VirtualKeyId(""), (), params)
                if own.end_user_id and self._is_blocked(own.end_user_id):
                    raise EndUserBlocked(f"requests.{self._items_seen}")
                self._put(each.custom_id, own)
            self._items_seen += 1

    def _put(self, custom_id: str, own: Attribution) -> None:
        """Keep what an item is booked under."""
        if not self._limits.has_end_users:
            own = without_end_user(own)
        if own.end_user_id or own.session_id or own.tags or own.metadata:
            item = BatchItem(
                custom_id=custom_id,
                end_user_id=own.end_user_id,
                session_id=own.session_id,
                tags=own.tags,
                metadata=own.metadata,
            )
            self._items.put(item)

    def _came(self) -> Iterator[bytes]:
        at = 0
        while piece := os.pread(self._file.fileno(), READ_BYTES, at):
            at += len(piece)
            yield piece

    def _plain(self) -> Iterator[bytes]:
        decoder = decoder_for(self._coding)
        for piece in self._came():
            for at in range(0, len(piece), STEP_BYTES):
                yield from decoder.decode(piece[at : at + STEP_BYTES])


class _ItemsFile:
    """Items as JSON lists of at most CHUNK_BYTES_MAX, one behind the other; made with the first item."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: BinaryIO | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.ends: list[int] = []

    @property
    def size(self) -> int:
        return self.ends[-1] if self.ends else 0

    def put(self, item: BatchItem) -> None:
        encoded = _ENCODE(item)
        if not item.custom_id or self.size + self._waiting_bytes + len(encoded) > ITEMS_BYTES_MAX:
            metrics.edge_metadata_cut.labels("items").inc()
            return
        if self._waiting_bytes + len(encoded) >= CHUNK_BYTES_MAX:
            self.end()
        self._waiting.append(encoded)
        self._waiting_bytes += len(encoded) + 1

    def end(self) -> None:
        if not self._waiting:
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - closed by `close`
        chunk = b"[%s]" % b",".join(self._waiting)
        _write(self._file, chunk)
        self.ends.append(self.size + len(chunk))
        self._waiting, self._waiting_bytes = [], 0

    def chunks(self) -> Iterator[tuple[BatchItem, ...]]:
        begin = 0
        for end in self.ends:
            assert self._file is not None, "a chunk ends only in a file"
            yield _ITEMS.decode(os.pread(self._file.fileno(), end - begin, begin))
            begin = end

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _write(file: BinaryIO, data: bytes) -> None:
    """Write all of it, past any buffer, so that reading by descriptor sees it."""
    view = memoryview(data)
    while view:
        view = view[os.write(file.fileno(), view) :]


def _decoder(coding: str) -> Decoder | None:
    try:
        return decoder_for(coding)
    except CannotDecode:
        return None


def _is_plain(coding: str) -> bool:
    return coding.strip().lower() in ("", "identity")
