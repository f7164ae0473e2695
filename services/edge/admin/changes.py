"""Turns what an operator asked for into records of the registry; pure, and refuses what would not hold."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TypeVar, cast, get_args

import msgspec
from msgspec import UNSET

from schemas.keys import EndUser, KeyHash, Limits, ModelBudget, OnDisconnect, Team, VirtualKey
from services.edge.admin import durations
from services.edge.admin.errors import AdminRefused
from services.edge.admin.fields import (
    CustomerFields,
    KeyFields,
    LimitFields,
    ModelBudgetFields,
    SharedFields,
    check_metadata,
)
from services.edge.attribution import METADATA_KEYS_MAX, TAGS_MAX, TEXT_CHARS_MAX
from services.edge.registry.rights import ORGANIZATIONS, PROVIDER, ROUTE_GROUPS
from services.edge.registry.secrets import digest_of, is_usable, name_of

# A record of a key at its largest is some 200 KB; Kafka takes 1 MB.
MODELS_MAX = 256
ROUTES_MAX = 64
ALIASES_MAX = 64
# Secrets of one key that work at once: the newest, and those whose grace is not over.
HASHES_MAX = 8
WHO = "master"
# USD; Decimal takes any number of digits, a budget does not need them.
BUDGET_USD_MAX = Decimal(10) ** 12

Owner = TypeVar("Owner", VirtualKey, Team, EndUser)


def changed_key(key: VirtualKey, fields: KeyFields, now: datetime) -> VirtualKey:
    """Lay what was given over a key."""
    key = _with_shared(key, fields)
    given: dict[str, object] = _texts(fields, ("key_alias", "user_id", "team_id"))
    if fields.duration is not UNSET:
        is_endless = fields.duration in (None, durations.ENDLESS)
        given["expires_at"] = None if is_endless else _end(now, fields.duration or "", "duration")
    if fields.aliases is not UNSET:
        given["aliases"] = _aliases(fields.aliases or {})
    if fields.allowed_routes is not UNSET:
        given["allowed_routes"] = _routes(fields.allowed_routes or ())
    if fields.on_disconnect is not UNSET:
        given["on_disconnect"] = _on_disconnect(fields.on_disconnect or "")
    return msgspec.structs.replace(key, **given)


def changed_team(team: Team, fields: SharedFields) -> Team:
    """Lay what was given over a team."""
    return msgspec.structs.replace(_with_shared(team, fields), **_texts(fields, ("team_alias",)))


def changed_end_user(end_user: EndUser, fields: CustomerFields) -> EndUser:
    """Lay what was given over an end user."""
    given: dict[str, object] = _texts(fields, ("alias",))
    if fields.blocked is not UNSET:
        given["blocked"] = bool(fields.blocked)
    if fields.metadata is not UNSET:
        given["metadata"], _ = _metadata(fields.metadata or {})
    return msgspec.structs.replace(end_user, limits=_limits(end_user.limits, fields), **given)


def with_secret(key: VirtualKey, secret: str, now: datetime, grace: str | None = None) -> VirtualKey:
    """Give a key a secret; those before it work until the end of the grace, or without one no longer."""
    if not is_usable(secret):
        raise AdminRefused("A key must begin with sk- and have 22 to 512 printable characters.", "key")
    before = _in_grace(key, _end(now, grace, "grace_period"), now) if grace else []
    if len(before) >= HASHES_MAX:
        raise AdminRefused(
            "This key has as many secrets in grace as it may; wait for one to end, or end all by none.",
            "grace_period",
        )
    hashes = (KeyHash(sha256=digest_of(secret)), *before)
    return msgspec.structs.replace(key, hashes=hashes, key_name=name_of(secret))


def _in_grace(key: VirtualKey, ends: datetime, now: datetime) -> list[KeyHash]:
    """Give the secrets that work on: the newest until `ends`, older ones until their own end."""
    return [
        msgspec.structs.replace(each, expires_at=ends if each.expires_at is None else each.expires_at)
        for each in key.hashes
        if each.expires_at is None or each.expires_at > now
    ]


def touched(owner: Owner, now: datetime) -> Owner:
    """Number a record one higher, and say who changed it and when."""
    return msgspec.structs.replace(owner, revision=owner.revision + 1, updated_at=now, updated_by=WHO)


def deleted(owner: Owner, now: datetime) -> Owner:
    """Mark a record as deleted; of a key nothing stays that could let anybody in."""
    gone = msgspec.structs.replace(touched(owner, now), deleted_at=now)
    return msgspec.structs.replace(gone, hashes=()) if isinstance(gone, VirtualKey) else gone


def bounded(text: str, param: str) -> str:
    """Take a name as it is, unless it is too long to be one."""
    if len(text) > TEXT_CHARS_MAX:
        raise AdminRefused(f"{param}: must have at most {TEXT_CHARS_MAX} characters.", param)
    return text


SharedOwner = TypeVar("SharedOwner", VirtualKey, Team)


def _with_shared(owner: SharedOwner, fields: SharedFields) -> SharedOwner:
    given: dict[str, object] = {}
    if fields.models is not UNSET:
        given["models"] = _names(fields.models or (), "models", MODELS_MAX)
    if fields.blocked is not UNSET:
        given["blocked"] = bool(fields.blocked)
    tags: Iterable[str] | None = None if fields.tags is UNSET else fields.tags or ()
    if fields.metadata is not UNSET:
        given["metadata"], tags_within = _metadata(fields.metadata or {})
        tags = (*(tags or ()), *tags_within) if tags is not None or tags_within else None
    if tags is not None:
        given["tags"] = _names(tags, "tags", TAGS_MAX)
    return msgspec.structs.replace(owner, limits=_limits(owner.limits, fields), **given)


def _limits(limits: Limits, fields: LimitFields) -> Limits:
    given: dict[str, object] = {}
    for name in ("max_budget", "soft_budget"):
        value = cast("Decimal | msgspec.UnsetType | None", getattr(fields, name))
        if value is not UNSET:
            given[name] = value if value is None else _usd(value, name)
    for name in ("tpm_limit", "rpm_limit", "max_parallel_requests"):
        value = cast("int | msgspec.UnsetType | None", getattr(fields, name))
        if isinstance(value, int) and not 0 <= value < 2**63:
            raise AdminRefused(f"{name}: must not be below 0, nor beyond 63 bits.", name)
        if value is not UNSET:
            given[name] = value
    if fields.budget_duration is not UNSET:
        given["budget_duration"] = _duration(fields.budget_duration or "", "budget_duration")
    if fields.model_max_budget is not UNSET:
        given["model_max_budget"] = _model_budgets(fields.model_max_budget or {})
    return msgspec.structs.replace(limits, **given)


def _model_budgets(given: Mapping[str, ModelBudgetFields]) -> dict[str, ModelBudget]:
    models = _names(given, "model_max_budget", MODELS_MAX)
    return {
        model: ModelBudget(
            budget_limit=_usd(given[model].budget_limit, "model_max_budget"),
            time_period=_duration(given[model].time_period, "model_max_budget"),
        )
        for model in models
    }


def _usd(value: Decimal, param: str) -> Decimal:
    if not value.is_finite() or not 0 <= value <= BUDGET_USD_MAX:
        raise AdminRefused(f"{param}: must be an amount of USD from 0 to {BUDGET_USD_MAX:,}.", param)
    return value


def _duration(text: str, param: str) -> str:
    if text and not durations.is_duration(text):
        raise AdminRefused(f"{param}: {durations.HINT}.", param)
    return text


def _end(now: datetime, duration: str, param: str) -> datetime:
    try:
        return durations.after(now, duration)
    except ValueError as exc:
        raise AdminRefused(f"{param}: {exc}.", param) from exc


def _texts(fields: msgspec.Struct, names: Iterable[str]) -> dict[str, object]:
    values = {name: cast("str | msgspec.UnsetType | None", getattr(fields, name, UNSET)) for name in names}
    return {name: bounded(value or "", name) for name, value in values.items() if value is not UNSET}


def _names(given: Iterable[str], param: str, count_max: int) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(bounded(name.strip(), param) for name in given))
    if len(names) > count_max:
        raise AdminRefused(f"{param}: at most {count_max} of them.", param)
    if "" in names:
        raise AdminRefused(f"{param}: one of them is empty.", param)
    return names


def _aliases(given: Mapping[str, str]) -> dict[str, str]:
    """Keep names and models as they are given; each is a whole name, as a pattern would stand for nothing."""
    models = _names(given.values(), "aliases", ALIASES_MAX)
    if any("*" in each for each in (*given, *models)):
        raise AdminRefused("aliases: are whole names, * stands for nothing in them.", "aliases")
    if PROVIDER in models:
        raise AdminRefused("aliases: one of the models is empty.", "aliases")
    if any(name != name.strip() for name in given):
        raise AdminRefused("aliases: a name begins or ends with white space.", "aliases")
    names = _names(given, "aliases", ALIASES_MAX)
    return {name: given[name].strip() for name in names}


def _routes(given: Iterable[str]) -> tuple[str, ...]:
    routes = _names(given, "allowed_routes", ROUTES_MAX)
    for route in routes:
        if route not in ROUTE_GROUPS and not route.startswith("/"):
            raise AdminRefused(
                f"allowed_routes: must be paths, with * for anything (/v1/files*; {ORGANIZATIONS}/* by its "
                f"own name), or one of {', '.join(ROUTE_GROUPS)}.",
                "allowed_routes",
            )
    return routes


def _on_disconnect(word: str) -> OnDisconnect:
    if word not in get_args(OnDisconnect):
        raise AdminRefused("on_disconnect: must be drain or cancel.", "on_disconnect")
    return cast("OnDisconnect", word)


def _metadata(given: Mapping[str, object]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Keep the scalars as texts, as events carry them; `tags` within are LiteLLM's place for tags."""
    check_metadata(given)
    kept: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    for name, value in given.items():
        if name == "tags" and isinstance(value, list):
            listed = cast("list[object]", value)
            tags = tuple(each for each in listed if isinstance(each, str))
        elif isinstance(value, str | int | float):
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            kept[bounded(name, "metadata")] = bounded(text, "metadata")
        elif value is not None:
            raise AdminRefused(
                f"metadata.{name[:TEXT_CHARS_MAX]}: must be a text or a number, as events carry it.",
                "metadata",
            )
    if len(kept) > METADATA_KEYS_MAX:
        raise AdminRefused(f"metadata: at most {METADATA_KEYS_MAX} members.", "metadata")
    return kept, tags
