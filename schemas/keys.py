"""Virtual keys, teams and end users, on gateway.keys.v1; of a secret only its sha256."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from schemas.ids import EdgeId, VirtualKeyId

OnDisconnect = Literal["", "drain", "cancel"]
"""What becomes of an answer whose client has hung up; "" is what the edge is configured to do."""


class ModelBudget(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent on one model; `time_period` is a duration such as 30d, "" for ever."""

    budget_limit: Decimal
    time_period: str = ""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What its owner may spend and ask for; null is no limit. Money is USD, limits are per minute."""

    max_budget: Decimal | None = None
    soft_budget: Decimal | None = None
    budget_duration: str = ""
    model_max_budget: dict[str, ModelBudget] = {}
    tpm_limit: int | None = None
    rpm_limit: int | None = None
    max_parallel_requests: int | None = None


class KeyHash(msgspec.Struct, frozen=True, kw_only=True):
    """One secret of a key, as its sha256 in hex; one that was replaced works until `expires_at`."""

    sha256: str
    expires_at: datetime | None = None


class VirtualKey(msgspec.Struct, frozen=True, kw_only=True, tag="virtual_key"):
    """A key that a caller may show in place of Anthropic's; its id stays when its secret is replaced.

    `key_name` shows the end of the secret. `models` are names or patterns with `*`, and none is every
    model; `allowed_routes` likewise are paths, patterns or groups, and none is the routes that every key has.
    `aliases` are names that the caller may ask by, each with the model that then goes to Anthropic.
    """

    virtual_key_id: VirtualKeyId
    revision: int
    created_at: datetime
    updated_at: datetime
    key_name: str = ""
    hashes: tuple[KeyHash, ...] = ()
    key_alias: str = ""
    team_id: str = ""
    user_id: str = ""
    created_by: str = ""
    updated_by: str = ""
    expires_at: datetime | None = None
    blocked: bool = False
    models: tuple[str, ...] = ()
    allowed_routes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    on_disconnect: OnDisconnect = ""
    limits: Limits = Limits()
    deleted_at: datetime | None = None
    aliases: dict[str, str] = {}


class Team(msgspec.Struct, frozen=True, kw_only=True, tag="team"):
    """What the keys of one team have in common; a model must be allowed by the key and by its team."""

    team_id: str
    revision: int
    created_at: datetime
    updated_at: datetime
    team_alias: str = ""
    created_by: str = ""
    updated_by: str = ""
    blocked: bool = False
    models: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    limits: Limits = Limits()
    deleted_at: datetime | None = None


class EndUser(msgspec.Struct, frozen=True, kw_only=True, tag="end_user"):
    """A person behind a key, as requests name them; one without a record may do what the key may."""

    end_user_id: str
    revision: int
    created_at: datetime
    updated_at: datetime
    alias: str = ""
    created_by: str = ""
    updated_by: str = ""
    blocked: bool = False
    metadata: dict[str, str] = {}
    limits: Limits = Limits()
    deleted_at: datetime | None = None


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One write to the registry: of two with the same key the last in the log counts, whole.

    `change_id` is minted for the write, so that who wrote can tell it from another's. What was deleted
    keeps its record, with `deleted_at`, for 30 days.
    """

    change_id: str
    edge_id: EdgeId
    at: datetime
    record: VirtualKey | Team | EndUser


def record_key(record: VirtualKey | Team | EndUser) -> str:
    """Give the Kafka key of a record: its kind and its id."""
    if isinstance(record, VirtualKey):
        return f"virtual_key:{record.virtual_key_id}"
    if isinstance(record, Team):
        return f"team:{record.team_id}"
    return f"end_user:{record.end_user_id}"
