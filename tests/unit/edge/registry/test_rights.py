"""What a key may do: in force, models, routes; every doubt is a no."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.keys import EndUser, KeyHash, Team, VirtualKey
from services.edge.refusals import END_USER_BLOCKED, MODEL_UNREADABLE, model_denied, route_denied
from services.edge.registry.denials import Asked, denial
from services.edge.registry.rights import (
    Grant,
    ModelFault,
    grant_of,
    matches,
    may_call,
    model_fault,
    restricts_models,
)
from services.edge.registry.secrets import digest_of, is_usable, name_of, new_key_id, new_secret
from services.edge.registry.table import Registry
from services.edge.targets import target_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECRET = "sk-0123456789012345678901234567"
AGO, SOON = NOW - timedelta(seconds=1), NOW + timedelta(seconds=1)


def key(**members):
    ordinary = {
        "virtual_key_id": "vk_1",
        "revision": 1,
        "created_at": NOW,
        "updated_at": NOW,
        "hashes": (KeyHash(sha256=digest_of(SECRET)),),
    }
    return VirtualKey(**{**ordinary, **members})


def team(**members):
    return Team(**{"team_id": "t", "revision": 1, "created_at": NOW, "updated_at": NOW, **members})


def registry(*entries, is_read=True):
    made = Registry(is_read=is_read)
    for each in entries:
        made.table.put(each)
    return made


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], "unknown_credential"),
        ([key()], Grant(key())),
        ([key(deleted_at=AGO)], "unknown_credential"),
        ([key(blocked=True)], "key_blocked"),
        ([key(expires_at=NOW)], "key_expired"),
        ([key(expires_at=SOON)], Grant(key(expires_at=SOON))),
        ([key(hashes=(KeyHash(sha256=digest_of(SECRET), expires_at=NOW),))], "key_expired"),
        ([key(team_id="t")], "team_blocked"),
        ([key(team_id="t"), team()], Grant(key(team_id="t"), team())),
        ([key(team_id="t"), team(blocked=True)], "team_blocked"),
        ([key(team_id="t"), team(deleted_at=AGO)], "team_blocked"),
    ],
)
def test_a_key_is_in_force_only_if_it_and_its_team_are(entries, expected):
    assert grant_of(SECRET, registry(*entries), NOW) == expected


def test_before_the_registry_is_read_no_key_is_called_unknown():
    assert grant_of(SECRET, registry(is_read=False), NOW) == "keys_unread"


@pytest.mark.parametrize("shown", [SECRET[:-1], SECRET + "0", SECRET.upper(), "", digest_of(SECRET), "vk_1"])
def test_nothing_but_the_whole_secret_lets_anybody_in(shown):
    assert grant_of(shown, registry(key()), NOW) == "unknown_credential"


def test_a_replaced_secret_works_beside_the_new_one_until_its_time_is_over():
    old = KeyHash(sha256=digest_of("sk-old"), expires_at=SOON)
    both = registry(key(hashes=(KeyHash(sha256=digest_of(SECRET)), old)))
    assert [isinstance(grant_of(shown, both, NOW), Grant) for shown in (SECRET, "sk-old")] == [True, True]
    assert grant_of("sk-old", both, SOON) == "key_expired"


def test_a_record_that_comes_later_takes_the_secrets_of_the_one_before_away():
    made = registry(key(), key(hashes=()))
    assert (made.table.key_of_digest(digest_of(SECRET)), len(made.table)) == (None, 1)


def test_a_tombstone_leaves_nothing():
    made = registry(key(key_alias="a"))
    made.table.remove("virtual_key:vk_1")
    found = (
        made.table.key_of_digest(digest_of(SECRET)),
        made.table.key_of_alias("a"),
        made.table.key("vk_1"),
    )
    assert (found, len(made.table)) == ((None, None, None), 0)


@pytest.mark.parametrize(
    ("key_models", "team_models", "asked", "denied"),
    [
        ((), (), ["m"], None),
        (("m",), (), ["m"], None),
        (("m",), (), ["m", "n"], ModelFault("n", False, ("m",))),
        (("claude-haiku-*",), (), ["claude-haiku-4-5"], None),
        (
            ("claude-haiku-*",),
            (),
            ["claude-opus-4-5"],
            ModelFault("claude-opus-4-5", False, ("claude-haiku-*",)),
        ),
        (("anthropic/claude-*",), (), ["claude-opus-4-5"], None),
        (("a", "b"), ("b", "c"), ["b"], None),
        (("a", "b"), ("b", "c"), ["a"], ModelFault("a", True, ("b", "c"))),
        ((), ("c",), ["a"], ModelFault("a", True, ("c",))),
        (("all-team-models",), ("c",), ["c"], None),
        (("all-team-models",), ("c",), ["a"], ModelFault("a", True, ("c",))),
        (("all-proxy-models",), (), ["anything"], None),
        (("*",), (), ["anything"], None),
        (("m*",), (), [""], ModelFault("", False, ("m*",))),
        (("m",), (), [], None),
        (("m",), (), ["M"], ModelFault("M", False, ("m",))),
        (("m",), (), [" m"], ModelFault(" m", False, ("m",))),
    ],
)
def test_a_model_must_stand_in_the_keys_list_and_in_its_teams(key_models, team_models, asked, denied):
    grant = Grant(key(models=key_models), team(models=team_models))
    assert model_fault(grant, asked) == denied
    assert restricts_models(grant) is (model_fault(grant, [""]) is not None)


def called(path, allowed=(), method="POST"):
    target = target_of(method, path, b"", b"")
    return may_call(Grant(key(allowed_routes=allowed)), target.operation, path)


@pytest.mark.parametrize(
    "path",
    [
        *(b"/v1/messages", b"/anthropic/v1/messages", b"/v1/messages/count_tokens", b"/v1/models"),
        *(b"/v1/models/claude-x", b"/v1/messages/batches", b"/v1/messages/batches/b_1/results"),
    ],
)
def test_every_key_may_send_messages_count_batch_and_look_at_models(path):
    assert [called(path), called(path, ("llm_api_routes",)), called(path, ("/v1/files",))] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/files",
        b"/v1/files/f_1/content",
        b"/v1/skills",
        b"/v1/complete",
        b"/v1/organizations/users",
        b"/v1/",
    ],
)
def test_what_all_keys_of_an_organisation_share_needs_a_grant(path):
    assert [called(path), called(path, ("anthropic_routes",))] == [False, False]


@pytest.mark.parametrize(
    ("path", "allowed", "expected"),
    [
        (b"/v1/files/f_1", ("/v1/files*",), True),
        (b"/anthropic/v1/files/f_1", ("/anthropic/v1/files/*",), True),
        (b"/v1/files", ("/v1/files",), True),
        (b"/v1/files/f_1", ("/v1/files",), False),
        (b"/v1/skills", ("/v1/files*",), False),
        (b"/v1/messages", ("/v1/files*", "llm_api_routes"), True),
        (b"/v1/anything", ("/*",), True),
        (b"/v1/organizations/users", ("/*",), False),
        (b"/v1/organizations/users", ("/v1/*",), False),
        (b"/v1/organizations/users", ("/v1/o*",), False),
        (b"/v1/organizations/users", ("/v1/organizations/*",), True),
        (b"/v1/organizations/users", ("/v1/organizations/users",), True),
        (b"/v1/organizations/api_keys", ("/v1/organizations/users",), False),
    ],
)
def test_a_route_is_granted_by_its_path_and_the_organisations_only_by_name(path, allowed, expected):
    assert called(path, allowed) is expected


@pytest.mark.parametrize(
    "path",
    [
        *(b"/v1/files/../organizations/users", b"/v1/files/%2e%2e/organizations/users"),
        *(b"/v1/files/..%2forganizations", b"/v1/messages/batches/..%2f..%2f..%2fv1%2forganizations"),
        *(b"/v1/files/..\\organizations", b"/v1/files%5c..%5corganizations", b"/v1/./organizations"),
        *(b"/v1//organizations/users", b"/v1/organizations%2fusers", b"/v1/%6frganizations/users"),
        *(b"//v1/organizations/users", b"/v1/Organizations/users", b"/anthropic//v1/organizations/x"),
        *(b"/anthropic/%2fv1/organizations/x", b"/v1/organizations;x=1/users", b"/v1\\organizations"),
    ],
)
def test_no_spelling_of_a_path_leads_around_the_grant(path):
    assert not may_call(Grant(key(allowed_routes=("/*", "llm_api_routes"))), "other", path)


@given(st.text("ab*", max_size=12), st.text("ab", max_size=12))
def test_a_star_stands_for_anything_and_everything_else_for_itself(pattern, text):
    import re

    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None
    assert matches(pattern, text) is expected


def asked(method, path, models):
    return Asked(method, path, target_of(method, path, b"", b""), models)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (asked("POST", b"/v1/messages", ("m",)), None),
        (asked("POST", b"/v1/messages", ("n",)), model_denied("This API key", "n", ("m",))),
        (asked("POST", b"/v1/messages", ("n" * 200,)), model_denied("This API key", "n" * 128, ("m",))),
        (asked("POST", b"/v1/messages", ("",)), MODEL_UNREADABLE),
        (asked("POST", b"/v1/messages", None), MODEL_UNREADABLE),
        (asked("POST", b"/v1/messages/count_tokens", None), MODEL_UNREADABLE),
        (asked("POST", b"/v1/messages/batches", None), MODEL_UNREADABLE),
        (asked("POST", b"/v1/messages/batches", ("m", "n")), model_denied("This API key", "n", ("m",))),
        (asked("POST", b"/v1/messages/batches", ("m",)), None),
        (asked("POST", b"/v1/messages/batches/b/cancel", None), None),
        (asked("GET", b"/v1/messages/batches", None), None),
        (asked("GET", b"/v1/models", None), None),
        (asked("POST", b"/v1/files", None), None),
        (asked("POST", b"/v1/complete", None), MODEL_UNREADABLE),
        (asked("POST", b"/v1/organizations/users", None), route_denied(("llm_api_routes", "/v1/*"))),
    ],
)
def test_a_model_that_cannot_be_read_is_refused_where_models_are_restricted(request_, expected):
    grant = Grant(key(models=("m",), allowed_routes=("llm_api_routes", "/v1/*")))
    assert denial(grant, None, request_) == expected


def test_a_refusal_says_whose_list_it_is_and_what_stands_in_it():
    grant = Grant(key(models=("claude-*",)), team(models=("claude-haiku-*", "claude-sonnet-*")))
    assert denial(grant, None, asked("POST", b"/v1/messages", ("claude-opus-5",))).message == (
        "The team of this API key may not use the model 'claude-opus-5'; it may use claude-haiku-*, "
        "claude-sonnet-*."
    )
    many = Grant(key(models=tuple(f"m{number}" for number in range(12))))
    told = denial(many, None, asked("POST", b"/v1/messages", ("n",))).message
    assert told == (
        "This API key may not use the model 'n'; it may use m0, m1, m2, m3, m4, m5, m6, m7, m8, m9 "
        "and 2 more."
    )
    assert denial(Grant(key()), None, asked("GET", b"/v1/files", None)).message == (
        "This API key may not use this endpoint; without allowed_routes it may use messages, count_tokens, "
        "models and batches."
    )
    files = Grant(key(allowed_routes=("/v1/files*",)))
    assert denial(files, None, asked("POST", b"/v1/messages", ("m",))).message == (
        "This API key may not use this endpoint; its allowed_routes are /v1/files*."
    )


def test_a_blocked_end_user_is_refused_whoever_asks():
    blocked = EndUser(end_user_id="u", revision=1, created_at=NOW, updated_at=NOW, blocked=True)
    request = asked("POST", b"/v1/messages", ("m",))
    assert [denial(grant, blocked, request) for grant in (None, Grant(key()))] == [END_USER_BLOCKED] * 2
    assert denial(None, None, request) is None


def test_secrets_are_minted_long_and_shown_by_their_end():
    minted = {new_secret() for _ in range(1000)}
    assert len(minted) == 1000
    assert all(is_usable(each) and len(each) == 35 for each in minted)
    assert name_of("sk-abcdefgh") == "sk-...efgh"
    assert new_key_id().startswith("vk_")


@pytest.mark.parametrize(
    "text", ["sk-short", "pk-0123456789012345678901", "sk-" + "x" * 20 + " y", "sk-" + "ü" * 22]
)
def test_what_could_be_guessed_or_not_be_sent_is_no_key(text):
    assert not is_usable(text)
