"""Decides for each request about batches whether the caller gets at it, and what becomes of its answer."""

from collections.abc import Mapping
from typing import Any

from schemas.batches import OWN_KEY
from services.edge.admission import Admitted
from services.edge.batches.facts import Remembered
from services.edge.batches.intake import BatchBody
from services.edge.batches.listing import Listing, cursors_in
from services.edge.batches.own_list import OwnList
from services.edge.batches.owners import holders_of
from services.edge.batches.ownership import Ownership
from services.edge.batches.watch import BatchAnswer, ResultsDownload
from services.edge.headers import RawHeaders
from services.edge.refusals import BATCH_NOT_FOUND, HOST_INVALID, OWNERS_UNREAD, Refusal
from services.edge.results_url import Links, asking_for_identity, carries_results_url, gateway_address
from services.edge.targets import BATCHES, RESULTS, batch_id_of, lists_batches


class BatchAnswers:
    """What the requests of one edge have in common where they are about batches."""

    def __init__(self, ownership: Ownership, base_path: bytes) -> None:
        self._ownership = ownership
        self._base_path = base_path
        self._remembered = Remembered()

    async def refusal(self, scope: Mapping[str, Any], admitted: Admitted) -> Refusal | None:
        """Say why the caller does not get at the batches that it asks for, if it does not."""
        grant, target = admitted.sees_only_own, admitted.target
        if grant is None or target.operation not in ("batches", "other"):
            return None
        batch_id = batch_id_of(target)
        named = [batch_id] if batch_id is not None else []
        if target.endpoint == BATCHES and scope["method"] == "HEAD":
            return BATCH_NOT_FOUND  # the length of the list would tell how much the others have made
        if lists_batches(scope["method"], target):
            if not self._ownership.is_read or self._ownership.is_away:
                return OWNERS_UNREAD
            named += cursors_in(scope["query_string"])
        for each in named:
            refusal = await self._ownership.refusal(each, holders_of(grant))
            if refusal is not None:
                return refusal
        return None

    def to(
        self, scope: Mapping[str, Any], admitted: Admitted, up: RawHeaders
    ) -> BatchAnswer | ResultsDownload | Refusal | None:
        """Say what becomes of the answer to a request with these headers; None where it just passes."""
        target, config = admitted.target, admitted.config
        is_own_key = admitted.caller.forwards_own_credential
        if target.endpoint == RESULTS and is_own_key:
            return ResultsDownload(batch_id_of(target) or "", self._base_path, up, self._remembered)
        if not carries_results_url(target.operation, target.endpoint):
            return None
        gateway = config.public_url.rstrip("/") or gateway_address(scope)
        if gateway is None:
            return HOST_INVALID
        up = asking_for_identity(up)
        created = admitted.body if isinstance(admitted.body, BatchBody) else None
        return BatchAnswer(
            Links(config.upstream.base_url, gateway),
            self._remembered,
            OWN_KEY if is_own_key else config.upstream.name,
            up,
            created,
            self._ownership if created is not None and admitted.sees_only_own else None,
            self._own_list(scope, admitted, up),
        )

    def _own_list(self, scope: Mapping[str, Any], admitted: Admitted, up: RawHeaders) -> OwnList | None:
        """Say which batches of a list the caller sees; None where it is no list, or it sees all."""
        grant = admitted.sees_only_own
        if grant is None or not lists_batches(scope["method"], admitted.target):
            return None
        owners, holders = self._ownership.owners, holders_of(grant)
        listing = Listing(
            scope["query_string"],
            lambda batch_id: owners.is_one_of(batch_id, holders),
            owners.span(holders),
        )
        return OwnList(listing, admitted.target.raw.partition(b"?")[0], up)
