"""Decides whether a request may begin an exchange, and reads what the decision and the meter need of it."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from services.edge.batches.intake import BatchBody, Intake, NotTaken
from services.edge.batches.upload import ItemRules
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
from services.edge.registry.aliases import NO_ALIASES, Aliases, aliases_of
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
        view = self.view
        return (view.model, *view.beside) if view.model and view.beside is not None else None

    @property
    def sees_only_own(self) -> Grant | None:
        """The key in whose name batches are seen; None where Anthropic alone decides who sees them.

        It does for the caller's own credential, and for who may do everything.
        """
        return None if self.caller.forwards_own_credential else self.caller.grant

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
        known = self._without_body(scope, headers)
        if isinstance(known, Refusal):
            return known
        if creates_batch(scope["method"], known.target):
            return await self._with_batch(known, receive, headers, lease)
        if _is_read_first(known.target, headers, known.config.body_bytes_max):
            return await self._with_body(known, receive, headers, lease)
        return known._replace(body=PassingBody(receive, known.config.client_read_s_max))

    def _without_body(self, scope: Mapping[str, Any], headers: RawHeaders) -> Admitted | Refusal:
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
        return Admitted(config, caller, credentials, target, BodyView(), WholeBody(b""), None)

    async def _with_body(
        self, known: Admitted, receive: Receive, headers: RawHeaders, lease: BodyLease
    ) -> Admitted | Refusal:
        aliases = aliases_of(known.caller.grant) if _is_always_read(known.target) else NO_ALIASES
        try:
            came = await whole_body(receive, known.config.body_bytes_max, lease)
            read = await self._read(came, joined(headers, b"content-encoding"), known, aliases)
            lease.grow(max(len(read.content) - len(came), 0))  # a few bytes of a coding can be MiB without it
        except BodyTooSlow:
            return BODY_TOO_SLOW
        except (BodyTooLarge, DecodedTooLarge, MemoryFull) as exc:
            return known._replace(body=WholeBody(b"", lease.release), refusal=_TOO_MUCH[type(exc)])
        return known._replace(
            view=read.view,
            body=WholeBody(read.content, lease.release),
            body_bytes=len(read.content),
            is_decoded=read.is_decoded,
            refusal=BODY_FAULTS.get(read.view.fault),
        )

    async def _with_batch(
        self, known: Admitted, receive: Receive, headers: RawHeaders, lease: BodyLease
    ) -> Admitted | Refusal:
        rules = ItemRules(aliases_of(known.caller.grant), self._is_blocked, known.caller.is_restricted)
        try:
            body = await self._intake.take(receive, headers, known.config, lease, rules)
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

    def _is_blocked(self, end_user_id: str) -> bool:
        """Say whether an end user is; also in threads beside the loop, as a lookup is one step."""
        end_user = self._registry.table.end_user(end_user_id)
        return end_user is not None and end_user.blocked

    async def _read(self, came: bytes, coding: str, known: Admitted, aliases: Aliases) -> ReadBody:
        read = partial(read_coded_body, every_model=known.caller.is_restricted)
        bytes_max = known.config.decoded_body_bytes_max
        if not came:
            return ReadBody(BodyView(), came)
        try:
            if coding or len(came) > READ_ON_LOOP_BYTES_MAX:
                return await asyncio.to_thread(read, came, coding, bytes_max, aliases)
            return read(came, coding, bytes_max, aliases)
        except DecodedTooLarge:
            if _is_always_read(known.target):
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
