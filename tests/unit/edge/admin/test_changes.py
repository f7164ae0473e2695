"""What operators ask for, as records: laid over what is there, and refused where it would not hold."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from schemas.keys import KeyHash, Limits, ModelBudget, VirtualKey
from services.edge.admin.changes import ALIASES_MAX, HASHES_MAX, changed_key, deleted, touched, with_secret
from services.edge.admin.errors import AdminRefused
from services.edge.admin.fields import (
    GenerateKey,
    KeyFields,
    ModelBudgetFields,
    UpdateKey,
    check_body,
)
from services.edge.registry.secrets import digest_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BLANK = VirtualKey(virtual_key_id="vk_1", revision=1, created_at=NOW, updated_at=NOW)
SECRETS = [f"sk-{number:030}" for number in range(12)]


def test_everything_that_is_given_is_laid_over_the_key():
    fields = KeyFields(
        key_alias="search",
        duration="1h",
        models=["m", "m", "n*"],
        aliases={"fast": "m"},
        allowed_routes=["llm_api_routes", "/v1/files*"],
        user_id="ada",
        team_id="t",
        tags=["a"],
        metadata={"text": "x", "number": 1.5, "flag": True, "gone": None, "tags": ["b", "a"]},
        blocked=True,
        on_disconnect="cancel",
        max_budget=Decimal("10.5"),
        budget_duration="30d",
        model_max_budget={"m": ModelBudgetFields(budget_limit=Decimal(1), time_period="1d")},
        rpm_limit=5,
    )
    assert changed_key(BLANK, fields, NOW) == msgspec.structs.replace(
        BLANK,
        key_alias="search",
        expires_at=NOW + timedelta(hours=1),
        models=("m", "n*"),
        aliases={"fast": "m"},
        allowed_routes=("llm_api_routes", "/v1/files*"),
        user_id="ada",
        team_id="t",
        tags=("a", "b"),
        metadata={"text": "x", "number": "1.5", "flag": "true"},
        blocked=True,
        on_disconnect="cancel",
        limits=Limits(
            max_budget=Decimal("10.5"),
            budget_duration="30d",
            model_max_budget={"m": ModelBudget(budget_limit=Decimal(1), time_period="1d")},
            rpm_limit=5,
        ),
    )


def test_what_is_left_out_stays_and_null_takes_away():
    full = msgspec.structs.replace(
        BLANK, key_alias="a", models=("m",), expires_at=NOW, limits=Limits(rpm_limit=1, tpm_limit=2)
    )
    assert changed_key(full, KeyFields(), NOW) == full
    cleared = KeyFields(key_alias=None, models=None, duration=None, rpm_limit=None)
    assert changed_key(full, cleared, NOW) == msgspec.structs.replace(BLANK, limits=Limits(tpm_limit=2))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (KeyFields(aliases={"fast": ""}), "aliases"),
        (KeyFields(aliases={"fast": "anthropic/"}), "aliases"),
        (KeyFields(aliases={"": "claude-haiku-4-5"}), "aliases"),
        (KeyFields(aliases={"fast ": "claude-haiku-4-5"}), "aliases"),
        (KeyFields(aliases={"claude-*": "claude-haiku-4-5"}), "aliases"),
        (KeyFields(aliases={"fast": "claude-haiku-*"}), "aliases"),
        (KeyFields(aliases={"x" * 257: "claude-haiku-4-5"}), "aliases"),
        (KeyFields(aliases={"fast": "x" * 257}), "aliases"),
        (KeyFields(aliases={f"a{n}": "claude-haiku-4-5" for n in range(ALIASES_MAX + 1)}), "aliases"),
        (KeyFields(duration="soon"), "duration"),
        (KeyFields(models=["x" * 257]), "models"),
        (KeyFields(models=[""]), "models"),
        (KeyFields(models=[f"m{n}" for n in range(257)]), "models"),
        (KeyFields(allowed_routes=["management_routes"]), "allowed_routes"),
        (KeyFields(allowed_routes=["files"]), "allowed_routes"),
        (KeyFields(tags=[f"t{n}" for n in range(33)]), "tags"),
        (KeyFields(metadata={"nested": {"a": 1}}), "metadata"),
        (KeyFields(metadata={"logging": [{"callback_name": "langfuse"}]}), "metadata"),
        (KeyFields(metadata={f"m{n}": 1 for n in range(33)}), "metadata"),
        (KeyFields(on_disconnect="hold"), "on_disconnect"),
        (KeyFields(max_budget=Decimal(-1)), "max_budget"),
        (KeyFields(max_budget=Decimal("NaN")), "max_budget"),
        (KeyFields(rpm_limit=-1), "rpm_limit"),
        (KeyFields(budget_duration="monthly"), "budget_duration"),
        (KeyFields(key_alias="x" * 257), "key_alias"),
    ],
)
def test_what_would_not_hold_is_refused_by_its_name(fields, param):
    with pytest.raises(AdminRefused) as refused:
        changed_key(BLANK, fields, NOW)
    assert (refused.value.param, refused.value.status) == (param, 400)


def test_aliases_are_kept_as_they_are_given_and_replaced_as_a_whole():
    given = {"fast": "anthropic/claude-haiku-4-5", "claude-opus-4-5": " claude-haiku-4-5"}
    key = changed_key(BLANK, KeyFields(aliases=given), NOW)
    assert key.aliases == {"fast": "anthropic/claude-haiku-4-5", "claude-opus-4-5": "claude-haiku-4-5"}
    assert changed_key(key, KeyFields(models=["m"]), NOW).aliases == key.aliases
    assert changed_key(key, KeyFields(aliases={"a": "b"}), NOW).aliases == {"a": "b"}
    assert [changed_key(key, KeyFields(aliases=none), NOW) for none in ({}, None)] == [BLANK, BLANK]


def test_a_new_secret_takes_the_place_of_the_old_one_at_once_or_after_its_grace():
    first = with_secret(BLANK, SECRETS[0], NOW)
    assert first.hashes == (KeyHash(sha256=digest_of(SECRETS[0])),)
    assert with_secret(first, SECRETS[1], NOW).hashes == (KeyHash(sha256=digest_of(SECRETS[1])),)
    kept = with_secret(first, SECRETS[1], NOW, "1h")
    old = KeyHash(sha256=digest_of(SECRETS[0]), expires_at=NOW + timedelta(hours=1))
    assert kept.hashes == (KeyHash(sha256=digest_of(SECRETS[1])), old)
    soon = NOW + timedelta(minutes=1)
    second = KeyHash(sha256=digest_of(SECRETS[1]), expires_at=soon + timedelta(days=1))
    assert with_secret(kept, SECRETS[2], soon, "1d").hashes[1:] == (second, old)
    late = NOW + timedelta(hours=2)
    second = KeyHash(sha256=digest_of(SECRETS[1]), expires_at=late + timedelta(days=1))
    assert with_secret(kept, SECRETS[2], late, "1d").hashes[1:] == (second,)


def test_a_secret_without_grace_ends_every_one_before_it_also_those_in_grace():
    kept = with_secret(with_secret(BLANK, SECRETS[0], NOW), SECRETS[1], NOW, "1h")
    assert with_secret(kept, SECRETS[2], NOW).hashes == (KeyHash(sha256=digest_of(SECRETS[2])),)


def test_secrets_in_grace_do_not_grow_without_bound():
    key = with_secret(BLANK, SECRETS[0], NOW)
    for number in range(1, HASHES_MAX):
        key = with_secret(key, SECRETS[number], NOW, "1d")
    with pytest.raises(AdminRefused):
        with_secret(key, SECRETS[HASHES_MAX + 1], NOW, "1d")


def test_a_deleted_key_keeps_its_names_and_no_secret():
    key = with_secret(msgspec.structs.replace(BLANK, key_alias="a"), SECRETS[0], NOW)
    gone = deleted(key, NOW)
    assert (gone.key_alias, gone.hashes, gone.deleted_at, gone.revision) == ("a", (), NOW, 2)
    assert touched(gone, NOW).revision == 3


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"modelss":1}', "modelss: unknown field"),
        (b'{"guardrails":[]}', "guardrails: LiteLLM has this field, Tollhouse does not"),
        (b'{"logging":true}', "logging: prompts and answers are never kept here"),
        (
            b'{"a":1,"store_prompts_in_spend_logs":true}',
            "a: unknown field; store_prompts",
        ),
        (b"[]", "must be a JSON object"),
        (b"", "must be a JSON object"),
    ],
)
def test_fields_that_are_not_served_are_refused_by_name(body, text):
    with pytest.raises(AdminRefused, match=text):
        check_body(body, GenerateKey)


def test_every_field_of_a_request_is_served():
    check_body(b'{"key":"k","models":[],"max_budget":null,"on_disconnect":"drain"}', UpdateKey)
