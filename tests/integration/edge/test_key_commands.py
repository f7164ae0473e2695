"""`tollhouse keys` and `teams` before a real edge: what they give, take away again, and cannot find."""

import json

import httpx
import pytest
from click.testing import CliRunner

from services.cli.commands import main
from services.edge.registry.secrets import digest_of
from tests.integration.edge.registry_stack import MASTER, MESSAGE
from tests.integration.edge.shell_stack import Gateway

# Every option, the admin API's field of it, and what stands there afterwards.
LIMITS = {
    "max-budget": ("12.50", "max_budget", 12.5),
    "soft-budget": ("0.1", "soft_budget", 0.1),
    "budget-duration": ("30d", "budget_duration", "30d"),
    "model-max-budget": (
        "anthropic/claude-x=5.10/1mo",
        "model_max_budget",
        {"anthropic/claude-x": {"budget_limit": "5.10", "time_period": "1mo"}},
    ),
    "tpm-limit": ("1000", "tpm_limit", 1000),
    "rpm-limit": ("0", "rpm_limit", 0),
    "max-parallel-requests": ("7", "max_parallel_requests", 7),
}
SHARED = {
    "model": ("claude-haiku-*", "models", ["claude-haiku-*"]),
    "tag": ("prod", "tags", ["prod"]),
    "metadata": ("a=b=c", "metadata", {"a": "b=c"}),
    **LIMITS,
}
OF_A_KEY = {
    "team": ("search", "team_id", "search"),
    "user": ("ada", "user_id", "ada"),
    "alias": ("backend", "key_alias", "backend"),
    "model-alias": ("fast=claude-haiku-4-5", "aliases", {"fast": "claude-haiku-4-5"}),
    "route": ("/v1/files*", "allowed_routes", ["/v1/files*"]),
    "on-disconnect": ("cancel", "on_disconnect", "cancel"),
    **SHARED,
}
OF_A_TEAM = {"alias": ("Search", "team_alias", "Search"), **SHARED}
OWN = "sk-brought-0123456789012345"
UNKNOWN = "sk-unknown-0123456789056789"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with Gateway(tmp_path_factory.mktemp("gateway")) as gateway:
        code, _, err = tollhouse(gateway.url, "teams", "create", "search")
        assert (code, err) == (0, "")
        yield gateway.url


def tollhouse(url, *arguments, given=""):
    environ = {"TOLLHOUSE_URL": url, "TOLLHOUSE_MASTER_KEY": MASTER}
    done = CliRunner().invoke(main, arguments, input=given, env=environ)
    return done.exit_code, done.stdout, done.stderr


def told(url, *arguments, given=""):
    """What the edge answered to a command that went well."""
    code, out, err = tollhouse(url, *arguments, "--json", given=given)
    assert (code, err) == (0, ""), arguments
    return json.loads(out)


def refused(url, *arguments, given=""):
    """The last line of what is said of a command that cannot be met."""
    code, out, err = tollhouse(url, *arguments, given=given)
    assert (code, out) == (2, ""), arguments
    return err.splitlines()[-1]


def options(table):
    return [each for word, (value, *_) in table.items() for each in (f"--{word}", value)]


def words(group):
    """What `--unset` takes."""
    update = main.commands[group].commands["update"]
    (unset,) = [each for each in update.params if each.name == "unset"]
    return set(unset.type.choices)


def fields(table, record):
    return {name: record[name] for _, name, _ in table.values()}


def test_every_option_of_a_key_is_given_and_unset_takes_away_that_one_alone(url):
    assert words("keys") == {*OF_A_KEY, "duration"}
    blank = told(url, "keys", "create")
    made = told(url, "keys", "create", *options(OF_A_KEY), "--duration", "30d")
    expected = {name: value for _, name, value in OF_A_KEY.values()}
    assert (fields(OF_A_KEY, made), blank["expires"], made["expires"] > made["created_at"]) == (
        expected,
        None,
        True,
    )
    key = made["virtual_key_id"]
    for word, (_, name, _) in OF_A_KEY.items():
        expected[name] = blank[name]
        assert fields(OF_A_KEY, told(url, "keys", "update", key, "--unset", word)) == expected, word
    assert expected == fields(OF_A_KEY, blank)
    assert told(url, "keys", "update", key, "--unset", "duration")["expires"] is None


def test_every_option_of_a_team_is_given_and_unset_takes_away_that_one_alone(url):
    assert words("teams") == set(OF_A_TEAM)
    blank = told(url, "teams", "create")
    made = told(url, "teams", "create", "given", *options(OF_A_TEAM))
    expected = {name: value for _, name, value in OF_A_TEAM.values()}
    assert fields(OF_A_TEAM, made) == expected
    for word, (_, name, _) in OF_A_TEAM.items():
        expected[name] = blank[name]
        changed = told(url, "teams", "update", "given", "--unset", word)["data"]
        assert fields(OF_A_TEAM, changed) == expected, word
    assert expected == fields(OF_A_TEAM, blank)


def test_some_fields_are_given_while_others_are_taken_away(url):
    key = told(url, "keys", "create", "--tag", "a", "--model", "m", "--rpm-limit", "1")["virtual_key_id"]
    changed = told(url, "keys", "update", key, "--tag", "b", "--unset", "model", "--unset", "rpm-limit")
    assert (changed["tags"], changed["models"], changed["rpm_limit"]) == (["b"], [], None)


def test_a_field_that_is_given_and_taken_away_at_once_is_refused(url):
    both = ("--max-budget", "0", "--unset", "max-budget")
    said = "Error: --max-budget and --unset max-budget: give only one of them"
    assert refused(url, "teams", "update", "search", *both) == said
    key = told(url, "keys", "create", "--tag", "a")["virtual_key_id"]
    said = "Error: --tag and --unset tag: give only one of them"
    assert refused(url, "keys", "update", key, "--unset", "tag", "--tag", "b") == said
    assert told(url, "keys", "show", key)["info"]["tags"] == ["a"]
    assert "'blocked' is not one of" in refused(url, "keys", "update", key, "--unset", "blocked")


def test_a_record_shows_its_limits_as_they_are_typed(url):
    budgets = ("--model-max-budget", "claude-haiku-4-5=2")
    code, out, _ = tollhouse(url, "teams", "create", "limited", *options(LIMITS), *budgets)
    lines = [
        "max_budget             12.5",
        "soft_budget            0.1",
        "budget_duration        30d",
        "model_max_budget       anthropic/claude-x=5.10/1mo, claude-haiku-4-5=2",
        "tpm_limit              1000",
        "rpm_limit              0",
        "max_parallel_requests  7",
    ]
    assert (code, out.splitlines()[: len(lines)]) == (0, lines)
    assert tollhouse(url, "teams", "show", "limited")[1].splitlines()[: len(lines)] == lines
    key = told(url, "keys", "create", *options(LIMITS), *budgets)["virtual_key_id"]
    assert tollhouse(url, "keys", "show", key)[1].splitlines()[: len(lines)] == lines


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--max-budget", "nan"), "--max-budget': must be an amount of USD, such as 12.50"),
        (("--soft-budget", "much"), "--soft-budget': must be an amount of USD, such as 12.50"),
        (("--model-max-budget", "m=1/"), "such as claude-haiku-4-5=5/30d"),
        (("--model-max-budget", "m"), "such as claude-haiku-4-5=5/30d"),
        (("--model-max-budget", "=1"), "such as claude-haiku-4-5=5/30d"),
        (("--model-max-budget", "m=x/1d"), "--model-max-budget': must be an amount of USD, such as 12.50"),
        (
            ("--model-max-budget", "m=1", "--model-max-budget", "m=2"),
            "--model-max-budget: gives a name twice",
        ),
        (("--metadata", "a"), "--metadata': must be NAME=VALUE"),
        (("--alias", "\udcff"), "what is given must be UTF-8"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_option(url, given, said):
    assert refused(url, "teams", "update", "search", *given).endswith(said)


def test_a_key_may_have_a_secret_that_comes_from_standard_input_and_is_not_printed(url):
    code, out, err = tollhouse(
        url, "keys", "create", "--alias", "brought", "--secret-from-stdin", given=f"{OWN}\n"
    )
    shown = dict(line.split(None, 1) for line in out.splitlines())
    assert (code, err, OWN in out) == (0, "", False)
    assert (shown["key_alias"], shown["token"], shown["key_name"]) == (
        "brought",
        digest_of(OWN),
        "sk-...2345",
    )
    headers = {"x-api-key": OWN, "anthropic-version": "2023-06-01"}
    assert httpx.post(f"{url}/v1/messages", headers=headers, json=MESSAGE, trust_env=False).status_code == 200
    again = refused(url, "keys", "create", "--secret-from-stdin", given=f"{OWN}\n")
    assert again == "tollhouse: This key is there already."


@pytest.mark.parametrize("given", ["", "\n", b"\xff\xff\n"])
def test_where_standard_input_has_no_secret_no_key_is_made(url, given):
    before = told(url, "keys", "list")["total_count"]
    said = refused(url, "keys", "create", "--secret-from-stdin", given=given)
    assert said == "Error: standard input holds no key"
    assert told(url, "keys", "list")["total_count"] == before


def test_keys_that_are_not_there_are_named_without_their_secrets_and_none_is_deleted(url):
    made = told(url, "keys", "create")
    absent = ["vk_none", "0" * 64, "backend-1", "unknown-0123456789056789", "", UNKNOWN]
    named = [made["virtual_key_id"], made["token"], *absent, "-", "vk_none"]
    said = refused(url, "keys", "delete", *named, given="sk-asked-for-0123456789-wxyz\n")
    names = ["vk_none", "0" * 64, "backend-1", "...6789", "''", "sk-...6789", "sk-...wxyz"]
    assert said == f"tollhouse: not there, so nothing was deleted: {', '.join(names)}"
    both = (made["virtual_key_id"], made["token"])
    assert tollhouse(url, "keys", "delete", *both) == (0, f"deleted {made['token']}\n", "")
    said = f"tollhouse: not there, so nothing was deleted: {both[0]}, {both[1]}"
    assert refused(url, "keys", "delete", *both) == said


def test_teams_that_are_not_there_are_named_and_none_is_deleted(url):
    told(url, "teams", "create", "standing")
    said = refused(url, "teams", "delete", "nobody", "standing", UNKNOWN, "", "nobody")
    assert said == "tollhouse: not there, so nothing was deleted: nobody, sk-...6789, ''"
    assert tollhouse(url, "teams", "delete", "standing") == (0, "deleted team standing\n", "")


def test_a_route_that_is_not_there_says_nothing_of_what_was_to_be_deleted(url):
    for group, name in (("keys", "vk_none"), ("teams", "nobody")):
        said = refused(f"{url}/elsewhere", group, "delete", name)
        assert said.startswith("tollhouse: The gateway serves ")
