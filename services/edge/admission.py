"""Decides whether a request may begin an exchange, and reads what the decision and the meter need of it."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from services.edge.batches.intake import BatchBody, Intake, NotTaken
from services.edge.body import BodyView, Fault
from services.edge.body_memory import BodyLease, MemoryFull
from services.edge.client import BodyTooLarge, BodyTooSlow, PassingBody, Receive, whole_body
from services.edge.coded_body import DecodedTooLarge, ReadBody, read_coded_body
from services.edge.config import EdgeConfig
from services.edge.headers import RawHeaders, first, joined
from services.edge.identity import Caller, Credentials, identify, read_credentials
from services.edge.refusals import (
    BODY_TOO_LARGE,
    BODY_TOO_LARGE_DECODED,
    BODY_TOO_SLOW,
    CREDENTIAL_FAULTS,
    MEMORY_FULL,
    MODEL_TWICE,
    TARGET_FAULTS,
    TOO_MANY_MEMBERS,
    Refusal,
)
from services.edge.registry.rights import Grant, KeyFault, grant_of
from services.edge.registry.table import Registry
from services.edge.targets import Target, creates_batch, target_of
from services.edge.transport import WholeBody

# Reading takes 1 ms a MiB: longer bodies, and those in a coding, are read beside the event loop.
READ_ON_LOOP_BYTES_MAX = 1024 * 1024

BODY_FAULTS: Mapping[Fault, Refusal] = {
    "model_twice": MODEL_TWICE,
    "too_many_members": TOO_MANY_MEMBERS,
}


class Admitted(NamedTuple):
    """A request that begins an exchange; `refusal` is set where that ends at once, on the record.

    `config` is what it was let in by, and what it is served by to its end.
    """

    config: EdgeConfig
    caller: Caller
    credentials: Credentials
    target: Target
    view: BodyView
    body: WholeBody | PassingBody | BatchBody
    body_bytes: int | None
    is_decoded: bool = False
    refusal: Refusal | None = None

    @property
    def models(self) -> tuple[str, ...] | None:
        """The models asked for, as far as that is known; None where it is not."""
        if isinstance(self.body, BatchBody):
            return self.body.upload.view.models_asked_for()
        return (self.view.model,) if self.view.model else None

    @property
    def virtual_key(self) -> str:
        """The virtual key that was shown, if one was."""
        return self.credentials.gateway if self.caller.grant else ""


class Admission:
    """Lets requests in by the settings of one edge, and the keys that there are."""

    def __init__(self, config: EdgeConfig, registry: Registry, intake: Intake) -> None:
        self._config = config
        self._intake = intake
        self._registry = registry
        self.base_path = urlsplit(config.upstream.base_url).path.rstrip("/").encode()

    async def admit(self, scope: Mapping[str, Any], receive: Receive, lease: BodyLease) -> Admitted | Refusal:
        """Read a request as far as it must be known; a Refusal where it leaves no record."""
        headers: RawHeaders = scope["headers"]
        config = self._config
        credentials = read_credentials(headers)
        caller = identify(
            credentials,
            master_key=config.master_key,
            hash_secret=config.own_key_hash_secret,
            gateway_has_credential=config.upstream.has_credential,
            lookup=self._grant,
        )
        if isinstance(caller, str):
            return CREDENTIAL_FAULTS[caller]
        target = target_of(scope["method"], scope["raw_path"], scope["query_string"], self.base_path)
        if isinstance(target, str):
            return TARGET_FAULTS[target]
        if creates_batch(scope["method"], target):
            known = Admitted(config, caller, credentials, target, BodyView(), WholeBody(b""), None)
            return await self._with_batch(known, receive, headers, lease)
        if not _is_read_first(target, headers, config.body_bytes_max):
            return Admitted(config, caller, credentials, target, BodyView(), PassingBody(receive), None)
        try:
            came = await whole_body(receive, config.body_bytes_max, lease)
            read = await self._read(came, joined(headers, b"content-encoding"), target)
            lease.grow(max(len(read.content) - len(came), 0))  # a few bytes of a coding can be MiB without it
        except BodyTooSlow:
            return BODY_TOO_SLOW
        except (BodyTooLarge, DecodedTooLarge, MemoryFull) as exc:
            nothing = WholeBody(b"", lease.release)
            return Admitted(
                config, caller, credentials, target, BodyView(), nothing, None, refusal=_TOO_MUCH[type(exc)]
            )
        body = WholeBody(read.content, lease.release)
        return Admitted(
            config,
            caller,
            credentials,
            target,
            read.view,
            body,
            len(read.content),
            read.is_decoded,
            BODY_FAULTS.get(read.view.fault),
        )

    async def _with_batch(
        self, known: Admitted, receive: Receive, headers: RawHeaders, lease: BodyLease
    ) -> Admitted | Refusal:
        try:
            body = await self._intake.take(receive, headers, known.config, lease)
        except BodyTooSlow:
            return BODY_TOO_SLOW
        except NotTaken as exc:
            return known._replace(refusal=exc.refusal)
        said = body.upload.view
        view = BodyView(
            litellm_metadata=said.litellm_metadata, is_metadata_too_long=said.is_metadata_too_long
        )
        upload = body.upload
        return known._replace(view=view, body=body, body_bytes=upload.up_bytes, is_decoded=upload.is_decoded)

    def _grant(self, secret: str) -> Grant | KeyFault:
        return grant_of(secret, self._registry, datetime.now(UTC))

    async def _read(self, came: bytes, coding: str, target: Target) -> ReadBody:
        bytes_max = self._config.decoded_body_bytes_max
        if not came:
            return ReadBody(BodyView(), came)
        try:
            if coding or len(came) > READ_ON_LOOP_BYTES_MAX:
                return await asyncio.to_thread(read_coded_body, came, coding, bytes_max)
            return read_coded_body(came, coding, bytes_max)
        except DecodedTooLarge:
            if _is_always_read(target):
                raise
            return ReadBody(BodyView(), came)  # as a body that is too long to be read first


_TOO_MUCH: Mapping[type[Exception], Refusal] = {
    BodyTooLarge: BODY_TOO_LARGE,
    DecodedTooLarge: BODY_TOO_LARGE_DECODED,
    MemoryFull: MEMORY_FULL,
}


def _is_always_read(target: Target) -> bool:
    return target.operation in ("messages", "count_tokens")


def _is_read_first(target: Target, headers: RawHeaders, bytes_max: int) -> bool:
    """Say whether the body is read before it goes up: messages always, other JSON where it is short.

    What is not read first passes as it comes: files. A call that creates a batch has a way of its own.
    """
    if _is_always_read(target):
        return True
    length = first(headers, b"content-length")
    has_body = length not in ("", "0") or bool(first(headers, b"transfer-encoding"))
    is_short = length.isdigit() and int(length) <= bytes_max
    return not has_body or (
        is_short and first(headers, b"content-type").lower().startswith("application/json")
    )
