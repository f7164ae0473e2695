"""Takes the body of a create call in from the client, within its limits, before anything goes up.

Files are written and read by threads of its own: a disk that hangs holds up no other exchange.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, cast

import httpx
import structlog

from services.edge.batches.scan import CannotTake, TooManyMembers, TwiceNamed
from services.edge.batches.upload import (
    NO_RULES,
    EndUserBlocked,
    ItemRules,
    Upload,
    UploadLimits,
    UploadTooLarge,
)
from services.edge.body_memory import BodyLease, BodyMemory, MemoryFull
from services.edge.client import BodyTooSlow, ClientGone, Receive
from services.edge.config import EdgeConfig
from services.edge.headers import RawHeaders, first, joined
from services.edge.refusals import (
    BATCH_FILES_FULL,
    BODY_TOO_LARGE,
    BODY_TOO_LARGE_DECODED,
    END_USER_BLOCKED,
    ITEM_TOO_LARGE,
    MEMBER_TWICE,
    MEMORY_FULL,
    TOO_MANY_MEMBERS,
    Refusal,
)

log = structlog.get_logger(__name__)

# For a whole body: 256 MiB at 1 Mbit/s. And for the next bytes of it.
UPLOAD_S_MAX = 2400.0
SILENCE_S_MAX = 300.0
# What is gathered before it is written: one trip to a thread costs some 50 us.
PORTION_BYTES = 256 * 1024
# So many bodies are read at once; more of them would only share the same processor.
THREADS_MAX = 4

Result = TypeVar("Result")


class NotTaken(Exception):
    """The body may not go up; the refusal is the answer to it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class Intake:
    """What all create calls of this process share: room on disk, and threads."""

    def __init__(self, config: EdgeConfig, silence_s_max: float = SILENCE_S_MAX) -> None:
        self._silence_s_max = silence_s_max
        self._directory = Path(config.batches.directory or config.spool.directory)
        self._threads = ThreadPoolExecutor(max_workers=THREADS_MAX, thread_name_prefix="batch-files")
        self.room = BodyMemory(config.batches.bytes_max)

    async def take(
        self,
        receive: Receive,
        headers: RawHeaders,
        config: EdgeConfig,
        memory: BodyLease,
        rules: ItemRules = NO_RULES,
    ) -> "BatchBody":
        """Read a body to its end; NotTaken, ClientGone or BodyTooSlow where there is none to send up."""
        announced = first(headers, b"content-length")
        announced_bytes = int(announced) if announced.isdigit() else 0
        if announced_bytes > config.batch_body_bytes_max:
            raise NotTaken(BODY_TOO_LARGE)
        if not self.room.has_room_for(announced_bytes):
            raise NotTaken(BATCH_FILES_FULL)
        body: BatchBody | None = None
        try:
            async with asyncio.timeout(UPLOAD_S_MAX):
                body = BatchBody(self._begun(joined(headers, b"content-encoding"), config, rules), self)
                await self._receive(receive, body, config.batch_body_bytes_max, memory)
        except BaseException as exc:
            if body is not None:
                body.close()
            if isinstance(exc, TimeoutError):
                raise BodyTooSlow from exc
            refusal = _refusal_of(exc)
            if refusal is None:
                raise
            raise NotTaken(refusal) from exc
        return body

    def submit(self, work: Callable[..., Result], *arguments: object) -> Future[Result]:
        """Begin what may wait for the disk."""
        return self._threads.submit(work, *arguments)

    def _begun(self, coding: str, config: EdgeConfig, rules: ItemRules) -> Upload:
        self._directory.mkdir(parents=True, exist_ok=True)
        limits = UploadLimits(
            value_bytes_max=config.body_bytes_max,
            plain_bytes_max=config.batch_body_bytes_max,
            has_end_users=not config.disable_end_user_cost_tracking,
        )
        return Upload(self._directory, coding, limits, rules)

    async def _receive(self, receive: Receive, body: "BatchBody", bytes_max: int, memory: BodyLease) -> None:
        upload, waiting, is_more = body.upload, bytearray(), True
        while is_more:
            async with asyncio.timeout(self._silence_s_max):
                message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            waiting += message.get("body", b"")
            is_more = message.get("more_body", False)
            if upload.came_bytes + len(waiting) > bytes_max:
                raise NotTaken(BODY_TOO_LARGE)
            if len(waiting) >= PORTION_BYTES or not is_more:
                body.hold(upload.file_bytes + len(waiting))
                memory.hold(upload.held_bytes + len(waiting))
                await body.run(upload.take, bytes(waiting))
                waiting.clear()
        await body.run(upload.end)
        body.hold(upload.file_bytes)
        memory.hold(upload.held_bytes)


class BatchBody(httpx.AsyncByteStream):
    """A create call's body on its way up, with its length; a context manager, which forgets it at the end."""

    def __init__(self, upload: Upload, intake: Intake) -> None:
        self.upload = upload
        self._intake = intake
        self._lease = intake.room.lease()
        self._last: Future[object] | None = None

    def __enter__(self) -> "BatchBody":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = self.upload.pieces()
        while piece := await self.run(_next, pieces):
            yield piece

    async def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Do one thing that may wait for the disk; never two at once."""
        begun = self._intake.submit(work, *arguments)
        self._last = cast("Future[object]", begun)
        return await asyncio.wrap_future(begun)

    def hold(self, size: int) -> None:
        """Take room on the disk; NotTaken where there is too little."""
        try:
            self._lease.hold(size)
        except MemoryFull as exc:
            raise NotTaken(BATCH_FILES_FULL) from exc

    def close(self) -> None:
        """Give file and room back, once a thread that is still at work there has come to its end."""
        self._lease.release()
        if self._last is None:
            self.upload.close()
        else:
            self._last.add_done_callback(lambda _: self.upload.close())


def _next(pieces: Iterator[bytes]) -> bytes:
    return next(pieces, b"")


def _refusal_of(error: BaseException) -> Refusal | None:
    """Say what the client is told; None where the error is none of the body's."""
    if isinstance(error, TwiceNamed):
        return MEMBER_TWICE._replace(
            message=f"{error}: stands twice in the request's body; it must be said once."
        )
    if isinstance(error, EndUserBlocked):
        return END_USER_BLOCKED._replace(message=f"{error}: the end user that this item names is blocked.")
    if isinstance(error, TooManyMembers):
        return TOO_MANY_MEMBERS._replace(message=str(error))
    if isinstance(error, CannotTake):
        return ITEM_TOO_LARGE
    if isinstance(error, UploadTooLarge):
        return BODY_TOO_LARGE_DECODED
    if isinstance(error, MemoryFull):
        return MEMORY_FULL
    if isinstance(error, OSError):
        log.error("batch_file.failed", error=error.strerror)
        return BATCH_FILES_FULL
    return None
