"""What the admin API answers, in LiteLLM's fields; a secret stands only in the answer that made it."""

from datetime import datetime
from decimal import Decimal

import msgspec

from schemas.keys import EndUser, Team, VirtualKey


class LimitsShown(msgspec.Struct, frozen=True, kw_only=True):
    """Budgets in USD and limits per minute; null is none."""

    max_budget: float | None
    soft_budget: float | None
    budget_duration: str | None
    model_max_budget: dict[str, dict[str, str]]
    tpm_limit: int | None
    rpm_limit: int | None
    max_parallel_requests: int | None


class KeyShown(LimitsShown, frozen=True, kw_only=True):
    """A key; `token` is the sha256 of its secret, `virtual_key_id` what usage is booked under.

    Until each of `grace_until` an older secret works beside it.
    """

    virtual_key_id: str
    token: str
    key_name: str
    key_alias: str | None
    expires: datetime | None
    grace_until: tuple[datetime, ...]
    models: tuple[str, ...]
    aliases: dict[str, str]
    allowed_routes: tuple[str, ...]
    user_id: str | None
    team_id: str | None
    tags: tuple[str, ...]
    metadata: dict[str, str]
    blocked: bool
    on_disconnect: str | None
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str


class KeyUpdated(KeyShown, frozen=True, kw_only=True):
    """A key as it is now; `key` is its `token`, in the place where LiteLLM repeats what named it."""

    key: str


class KeyMade(KeyShown, frozen=True, kw_only=True):
    """A key with its secret, which is shown this once; `token_id` is `token` under LiteLLM's other name."""

    key: str
    token_id: str


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One key, under the sha256 of its secret."""

    key: str
    info: KeyShown


class KeyPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of keys: the sha256 of each one's secret, or whole keys."""

    keys: list[str | KeyShown]
    total_count: int
    current_page: int
    total_pages: int


class AliasPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of aliases."""

    aliases: list[str]
    total_count: int
    current_page: int
    total_pages: int


class KeysDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that are gone, by the sha256 of their secrets."""

    deleted_keys: list[str]


class TeamShown(LimitsShown, frozen=True, kw_only=True):
    """A team."""

    team_id: str
    team_alias: str | None
    models: tuple[str, ...]
    tags: tuple[str, ...]
    metadata: dict[str, str]
    blocked: bool
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str


class TeamInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A team and its keys."""

    team_id: str
    team_info: TeamShown
    keys: list[KeyShown]


class TeamUpdated(msgspec.Struct, frozen=True, kw_only=True):
    """A team as it is now."""

    team_id: str
    data: TeamShown


class TeamsDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """The teams that are gone, and the keys that went with them, by the sha256 of their secrets."""

    deleted_teams: list[str]
    deleted_keys: list[str]


class CustomerShown(LimitsShown, frozen=True, kw_only=True):
    """An end user."""

    user_id: str
    alias: str | None
    metadata: dict[str, str]
    blocked: bool
    created_at: datetime
    updated_at: datetime


class CustomersBlocked(msgspec.Struct, frozen=True, kw_only=True):
    """End users as they are now."""

    blocked_users: list[CustomerShown]


class CustomersDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """How many end users' records are gone."""

    deleted_customers: int


def token_of(key: VirtualKey) -> str:
    """Give the sha256 of the secret that a key has now."""
    return key.hashes[0].sha256 if key.hashes else ""


def key_shown(key: VirtualKey) -> KeyShown:
    """Show a key."""
    members = {
        **_members(key),
        "token": token_of(key),
        "key_alias": key.key_alias or None,
        "expires": key.expires_at,
        "grace_until": tuple(each.expires_at for each in key.hashes if each.expires_at is not None),
        "user_id": key.user_id or None,
        "team_id": key.team_id or None,
        "on_disconnect": key.on_disconnect or None,
    }
    return msgspec.convert(members, KeyShown)


def key_updated(key: VirtualKey) -> KeyUpdated:
    """Show a key that has just been changed."""
    return msgspec.convert({**msgspec.structs.asdict(key_shown(key)), "key": token_of(key)}, KeyUpdated)


def key_made(key: VirtualKey, secret: str) -> KeyMade:
    """Show a key with the secret that it was just given."""
    shown = msgspec.structs.asdict(key_shown(key))
    return msgspec.convert({**shown, "key": secret, "token_id": token_of(key)}, KeyMade)


def team_shown(team: Team) -> TeamShown:
    """Show a team."""
    return msgspec.convert({**_members(team), "team_alias": team.team_alias or None}, TeamShown)


def customer_shown(end_user: EndUser) -> CustomerShown:
    """Show an end user."""
    members = {**_members(end_user), "user_id": end_user.end_user_id, "alias": end_user.alias or None}
    return msgspec.convert(members, CustomerShown)


def _members(entry: VirtualKey | Team | EndUser) -> dict[str, object]:
    """Give what a record and its answer call the same, and its limits; money as LiteLLM's clients read it."""
    limits = entry.limits
    budgets = {
        model: {"budget_limit": str(each.budget_limit), "time_period": each.time_period}
        for model, each in limits.model_max_budget.items()
    }
    return {
        **msgspec.structs.asdict(entry),
        **msgspec.structs.asdict(limits),
        "max_budget": _number(limits.max_budget),
        "soft_budget": _number(limits.soft_budget),
        "budget_duration": limits.budget_duration or None,
        "model_max_budget": budgets,
    }


def _number(usd: Decimal | None) -> float | None:
    return None if usd is None else float(usd)
