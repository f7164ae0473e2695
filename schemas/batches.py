"""What was seen of a message batch, how far it is booked, and whose it is; a topic each."""

from datetime import datetime
from typing import Literal

import msgspec

from schemas.attribution import Attribution
from schemas.ids import EdgeId, RequestId, VirtualKeyId

OWN_KEY = ""
"""As `credential`: the batch was made under the caller's own key, and nobody else can read its results."""


class BatchCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Anthropic's request_counts: how many items of a batch there are in each state."""

    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class ItemCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many items are booked, by how they ended."""

    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class BatchCreated(msgspec.Struct, frozen=True, kw_only=True, tag="created"):
    """A batch was made, and by whom; the first fact of every batch that was made through the gateway.

    `created_at` and `expires_at` are Anthropic's. `credential` names the upstream credential it was made
    under, "" the caller's own key. `models` are those asked for, as far as they were kept, and
    `item_chunks` says how many facts of the type `items` belong to it. Results are read with the
    `anthropic_version` and `anthropic_beta` of the call that made it.
    """

    created_at: datetime
    expires_at: datetime
    requests: int
    attribution: Attribution
    credential: str
    request_id: RequestId
    models: tuple[str, ...] = ()
    item_chunks: int = 0
    anthropic_version: str = ""
    anthropic_beta: str = ""


class BatchItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item with an attribution of its own; every other item is its creator's."""

    custom_id: str
    end_user_id: str = ""
    session_id: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}


class BatchItems(msgspec.Struct, frozen=True, kw_only=True, tag="items"):
    """A part of the items with an attribution of their own; chunks count from 0."""

    chunk: int
    items: tuple[BatchItem, ...]


class BatchSeen(msgspec.Struct, frozen=True, kw_only=True, tag="seen"):
    """What an answer of Anthropic said of a batch: to a create, a retrieve, a list or a cancel.

    `status` is Anthropic's word: in_progress, canceling or ended.
    """

    status: str
    created_at: datetime
    expires_at: datetime
    credential: str
    ended_at: datetime | None = None
    counts: BatchCounts = BatchCounts()


class BatchDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="deleted"):
    """Anthropic has deleted the batch, and its results with it."""


class BatchFact(msgspec.Struct, frozen=True, kw_only=True):
    """One thing seen of a batch; the facts of one batch are in the order in which they were seen.

    `at` is when the gateway saw it; `edge_id` is "" where no edge did but the batch tracker or a command.
    """

    batch_id: str
    at: datetime
    edge_id: EdgeId
    fact: BatchCreated | BatchItems | BatchSeen | BatchDeleted


class BatchOwner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose a batch is that a virtual key made with the gateway's credential (gateway.batch_owners.v1).

    It is its team's, or the key's own where the key has no team. `created_at` is Anthropic's, and orders a
    list of batches; `at` is when the gateway saw it, in the call `request_id`.
    """

    batch_id: str
    at: datetime
    edge_id: EdgeId
    created_at: datetime
    request_id: RequestId
    virtual_key_id: VirtualKeyId
    team_id: str = ""


BatchPhase = Literal[
    "waiting",  # Anthropic is at work on it, as far as is known
    "booking",  # it has ended, and its items are being booked
    "no_access",  # Anthropic refuses the credential; asked again now and then
    "other_credential",  # it was made under a credential that the batch tracker does not hold
    "own_key",  # it was made under the caller's own key: its items are booked when the caller reads them
    "booked",  # the end of most: every item is booked, and Anthropic's counts agree
    "mismatch",  # ended, and every line is read, but the counts do not agree
    "unreadable",  # ended: an answer or a result that cannot be read, however often
    "gone",  # ended: Anthropic no longer had the batch or its results
    "deleted",  # ended: deleted before every item was booked
]
"""How far the accounting of a batch is; from `booked` on nothing more happens to it."""


class ChunkPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a fact of the type `items` lies on gateway.batch_facts.v1."""

    chunk: int
    partition: int
    offset: int


class BatchState(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a batch, and how far it is booked; of two the one with the higher `version` holds.

    `is_adopted` where no creator is known: it was made elsewhere, or its creation was cut. `status` and
    `counts` are Anthropic's latest words. `lines_read` counts the lines of the results file that are booked,
    and `lines_digest` is the sha256 of them; `booked` counts the items found on them, `malformed` those that
    were none. `closed_at` is when the phase became an end, and `error` says, without a value, what stood in
    the way last. `request_id` is that of the call that made it, "" where none is known. `writer` is the batch
    tracker that wrote this.
    """

    batch_id: str
    version: int
    at: datetime
    phase: BatchPhase
    status: str
    created_at: datetime
    expires_at: datetime
    requests: int
    attribution: Attribution
    credential: str
    request_id: RequestId
    is_adopted: bool = False
    models: tuple[str, ...] = ()
    anthropic_version: str = ""
    anthropic_beta: str = ""
    item_chunks: int = 0
    chunks: tuple[ChunkPlace, ...] = ()
    ended_at: datetime | None = None
    counts: BatchCounts = BatchCounts()
    lines_read: int = 0
    lines_digest: str = ""
    booked: ItemCounts = ItemCounts()
    malformed: int = 0
    closed_at: datetime | None = None
    error: str = ""
    writer: str = ""
