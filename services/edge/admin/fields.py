"""What an operator may send: the fields of each request, and what is said of those that do not exist here."""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import UNSET, UnsetType

from services.edge.admin.description import Closed, Usd
from services.edge.admin.errors import AdminRefused

# Of LiteLLM's fields these are understood, and not had.
OF_LITELLM = frozenset(
    (
        *("agent_id", "allowed_cache_controls", "allowed_mcp_servers", "allowed_model_region"),
        *("allowed_passthrough_routes", "allowed_vector_store_indexes", "auto_rotate", "budget_id"),
        *("budget_limits", "config", "default_model", "enforced_params", "guardrails", "key_type"),
        *("model_rpm_limit", "model_tpm_limit", "object_permission", "organization_id", "permissions"),
        *("policies", "project_id", "prompts", "rotation_interval", "router_settings", "rpm_limit_type"),
        *("send_invite_email", "service_account_id", "spend", "temp_budget_expiry", "temp_budget_increase"),
        *("access_group_ids", "disable_global_guardrails", "enforced_file_expires_after", "new_master_key"),
        *("secret_manager_settings", "team_member_budget_duration"),
        *("include_team_keys", "include_created_by_keys", "key_hash", "search", "sort_by", "sort_order"),
        *("tpm_limit_type", "admins", "members", "members_with_roles", "model_aliases"),
        *("team_member_budget", "team_member_key_duration", "team_member_permissions"),
        *("team_member_rpm_limit", "team_member_tpm_limit", "tpd_limit", "rpd_limit"),
    )
)
# Fields by which LiteLLM is told to keep bodies, or where to send them.
OF_CAPTURE = frozenset(
    (
        *("log_raw_request_response", "logging", "message_logging", "store_prompts_in_cold_storage"),
        *("store_prompts_in_spend_logs", "turn_on_message_logging", "turn_off_message_logging"),
        *("callbacks", "success_callback"),
    )
)


class ModelBudgetFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be spent on one model, and in what time."""

    budget_limit: Usd
    time_period: str = ""


class LimitFields(msgspec.Struct, frozen=True, kw_only=True):
    """Budgets and limits; null takes one away. They are kept, and not yet enforced."""

    max_budget: Usd | UnsetType | None = UNSET
    soft_budget: Usd | UnsetType | None = UNSET
    budget_duration: str | UnsetType | None = UNSET
    model_max_budget: dict[str, Closed[ModelBudgetFields]] | UnsetType | None = UNSET
    tpm_limit: int | UnsetType | None = UNSET
    rpm_limit: int | UnsetType | None = UNSET
    max_parallel_requests: int | UnsetType | None = UNSET


class SharedFields(LimitFields, frozen=True, kw_only=True):
    """What keys and teams have in common."""

    models: list[str] | UnsetType | None = UNSET
    metadata: dict[str, object] | UnsetType | None = UNSET
    tags: list[str] | UnsetType | None = UNSET
    blocked: bool | UnsetType | None = UNSET


class KeyFields(SharedFields, frozen=True, kw_only=True):
    """What can be said of a key, when it is made and later."""

    key_alias: str | UnsetType | None = UNSET
    aliases: dict[str, str] | UnsetType | None = UNSET
    duration: str | UnsetType | None = UNSET
    allowed_routes: list[str] | UnsetType | None = UNSET
    user_id: str | UnsetType | None = UNSET
    team_id: str | UnsetType | None = UNSET
    on_disconnect: str | UnsetType | None = UNSET


class GenerateKey(KeyFields, frozen=True, kw_only=True):
    """A new key; `key` is a secret of the operator's own choice."""

    key: str | None = None


class UpdateKey(KeyFields, frozen=True, kw_only=True):
    """A key by its secret, the sha256 of it or its id, else by `key_alias`; what is left out stays."""

    key: str | None = None


class NewSecret(KeyFields, frozen=True, kw_only=True):
    """A new secret for a key; those before it work on for `grace_period`, or no longer."""

    new_key: str | None = None
    grace_period: str | None = None


class RegenerateKey(NewSecret, frozen=True, kw_only=True):
    """A new secret for the key that the body names."""

    key: str


class RegenerateKeyInPath(NewSecret, frozen=True, kw_only=True):
    """A new secret for the key that the path names, whatever `key` says."""

    key: str | None = None


class NamedKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key."""

    key: str


class NamedKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Keys by what names one, or by their aliases."""

    keys: list[str] | None = None
    key_aliases: list[str] | None = None


class NewTeam(SharedFields, frozen=True, kw_only=True):
    """A new team; its id is minted unless it is given."""

    team_id: str | None = None
    team_alias: str | UnsetType | None = UNSET


class UpdateTeam(SharedFields, frozen=True, kw_only=True):
    """A team; what is left out stays."""

    team_id: str
    team_alias: str | UnsetType | None = UNSET


class NamedTeam(msgspec.Struct, frozen=True, kw_only=True):
    """One team."""

    team_id: str


class NamedTeams(msgspec.Struct, frozen=True, kw_only=True):
    """Several teams."""

    team_ids: list[str]


class CustomerFields(LimitFields, frozen=True, kw_only=True):
    """An end user, as requests name it; what is left out of an update stays."""

    user_id: str
    alias: str | UnsetType | None = UNSET
    blocked: bool | UnsetType | None = UNSET
    metadata: dict[str, object] | UnsetType | None = UNSET


class NamedCustomers(msgspec.Struct, frozen=True, kw_only=True):
    """Several end users."""

    user_ids: list[str]


def check_names(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse what is not known, every name at once, and say of each why."""
    known = frozenset(known)
    faults = {name: _fault(name) for name in given if name not in known}
    if faults:
        text = "; ".join(f"{name[:128]}: {fault}" for name, fault in faults.items())
        raise AdminRefused(f"The {what} has fields that are not served: {text}.", next(iter(faults))[:128])


def check_body(raw: bytes, body: type[msgspec.Struct]) -> None:
    """Refuse a body that is no JSON object, or that names what a request of this type does not have."""
    try:
        given = msgspec.json.decode(raw, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise AdminRefused("The body must be a JSON object.") from exc
    fields = msgspec.structs.fields(body)
    check_names(given, (field.encode_name for field in fields), "body")
    missing = [field.encode_name for field in fields if field.required and field.encode_name not in given]
    if missing:
        raise AdminRefused(f"{', '.join(missing)}: must be given.", missing[0])


def check_metadata(metadata: Mapping[str, object]) -> None:
    """Refuse metadata by which LiteLLM is told to keep bodies."""
    found = [name for name in metadata if name in OF_CAPTURE]
    if found:
        raise AdminRefused(f"metadata.{found[0]}: {_fault(found[0])}.", "metadata")


def _fault(name: str) -> str:
    if name in OF_CAPTURE:
        return "prompts and answers are never kept here"
    if name in OF_LITELLM:
        return "LiteLLM has this field, Tollhouse does not"
    return "unknown field"
