"""A LiteLLM proxy_config.yaml is read as it is: what applies, what is left out, what must not be guessed."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cli import litellm_risks as risks
from services.cli.litellm_config import Ignored, Unset, is_litellm, translate
from services.cli.settings import ENVIRONMENT

SECRET = "sk-ant-very-secret"
OTHER = "sk-ant-another-secret"


def translated(text, **environ):
    return translate(yaml.safe_load(text), environ, ENVIRONMENT)


def credential(**upstream):
    """The settings of one credential: the edge's and the batch tracker's."""
    return {room: {"upstream": upstream} for room in ("edge", "batch_tracker")}


def entry(name="claude-sonnet-5", **parameters):
    return {"model_name": name, "litellm_params": {"model": f"anthropic/{name}", **parameters}}


def of_models(*entries, **environ):
    return translate({"model_list": list(entries)}, environ, ENVIRONMENT)


@pytest.mark.parametrize("section", ["model_list", "litellm_settings", "general_settings", "router_settings"])
def test_a_section_that_only_litellm_has_makes_a_file_litellms(section):
    assert is_litellm({section: None})


@pytest.mark.parametrize("document", [{}, {"edge": {}}, {"guardrails": []}])
def test_any_other_file_is_not(document):
    assert not is_litellm(document)


FULL = """
model_list:
  - model_name: claude-sonnet-5
    litellm_params: {model: anthropic/claude-sonnet-5, api_key: os.environ/PROD_KEY,
                     use_in_pass_through: true, api_base: "https://anthropic.example"}
    model_info: {id: mine}
  - model_name: "anthropic/*"
    litellm_params: {model: anthropic/*, api_key: os.environ/NOBODY_SET_THIS}
  - model_name: gpt-6
    litellm_params: {model: openai/gpt-6, api_key: os.environ/NOR_THIS}
litellm_settings:
  callbacks: [prometheus]
  turn_off_message_logging: true
  drop_params: true
  disable_end_user_cost_tracking: false
  disable_end_user_cost_tracking_prometheus_only: true
  include_cost_in_streaming_usage: false
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  database_url: os.environ/DATABASE_URL
  pass_through_request_timeout: 900
  cancel_on_disconnect: true
"""


def test_a_whole_file_becomes_settings_and_the_rest_is_named():
    read = translated(FULL, PROD_KEY=SECRET, LITELLM_MASTER_KEY="sk-master")
    assert read.settings == {
        "edge": {
            "master_key": "sk-master",
            "disable_end_user_cost_tracking": False,
            "upstream": {"api_key": SECRET, "base_url": "https://anthropic.example", "read_s_max": 900},
            "drain": {"on_disconnect": "cancel"},
        },
        "batch_tracker": {"upstream": {"api_key": SECRET, "base_url": "https://anthropic.example"}},
        "rating": {"disable_end_user_cost_tracking_prometheus_only": True},
    }
    assert (read.unset, read.faults) == ((), ())
    assert set(read.ignored) == {
        Ignored("litellm_settings.callbacks"),
        Ignored("litellm_settings.drop_params"),
        Ignored("litellm_settings.include_cost_in_streaming_usage"),
        Ignored("general_settings.database_url"),
        Ignored("model_list[1].litellm_params.api_key"),
        Ignored("model_list[2]", risks.OTHER_PROVIDER),
    }
    assert read.origins["edge.upstream.api_key"] == "model_list[0].litellm_params.api_key"


@pytest.mark.parametrize("environ", [{}, {"NAME": ""}])
def test_a_reference_that_the_environment_does_not_hold_is_named(environ):
    """An empty master key would let everybody in, so an empty variable is none."""
    read = translated("general_settings: {master_key: os.environ/NAME}", **environ)
    assert (read.settings, read.unset) == (
        {},
        (Unset("edge.master_key", "general_settings.master_key: the environment variable NAME is not set"),),
    )


def test_variables_that_the_file_gives_itself_are_looked_up_and_set():
    read = translated(
        f"""
environment_variables: {{MINE: {SECRET}, ANTHROPIC_API_BASE: "http://inside", UNREAD: x}}
model_list: [{{model_name: a, litellm_params: {{model: anthropic/a, api_key: os.environ/MINE,
                                                  use_in_pass_through: true}}}}]
"""
    )
    assert read.settings == credential(api_key=SECRET, base_url="http://inside")


def test_a_credential_that_nothing_marks_is_left_out_and_named():
    """LiteLLM's pass-through does not use it: its callers come with keys of their own."""
    read = of_models(entry(api_key="os.environ/ONE", api_base="https://a"), entry(api_key=OTHER), ONE=SECRET)
    assert (read.settings, read.faults, read.secret_variables) == ({}, (), {"ONE"})
    assert read.ignored == (
        Ignored("model_list[0].litellm_params.api_key", risks.UNUSED),
        Ignored("model_list[0].litellm_params.api_base", risks.UNUSED),
        Ignored("model_list[1].litellm_params.api_key", risks.UNUSED),
    )


@pytest.mark.parametrize(
    "parameters", [{"model": "claude-opus-6"}, {"model": "x", "custom_llm_provider": "anthropic"}]
)
def test_an_entry_is_anthropics_by_its_name_or_its_provider_too(parameters):
    marked = {**parameters, "api_key": SECRET, "use_in_pass_through": True}
    read = of_models({"model_name": parameters["model"], "litellm_params": marked})
    assert (read.settings, read.ignored) == (credential(api_key=SECRET), ())


@pytest.mark.parametrize(
    "model", ["openai/gpt-6", "bedrock/anthropic.claude-opus-6", "vertex_ai/claude-opus-6", None]
)
def test_what_another_provider_serves_is_left_out(model):
    read = of_models({"model_name": "x", "litellm_params": {"model": model, "api_key": SECRET}})
    assert (read.settings, read.ignored) == ({}, (Ignored("model_list[0]", risks.OTHER_PROVIDER),))


def test_of_several_credentials_the_marked_one_is_taken():
    read = of_models(entry(api_key=SECRET), entry(api_key=OTHER, use_in_pass_through=True))
    assert (read.settings, read.faults) == (credential(api_key=OTHER), ())


def test_two_marked_credentials_are_a_fault():
    marked = {"use_in_pass_through": True}
    read = of_models(entry(api_key=SECRET, **marked), entry(), entry(api_key=OTHER, **marked))
    assert (read.settings, read.faults) == (
        {},
        (
            "model_list: model_list[0], model_list[2] have different credentials and use_in_pass_through; "
            "leave it on one",
        ),
    )


def test_one_key_for_two_addresses_is_two_credentials():
    marked = {"api_key": SECRET, "use_in_pass_through": True}
    read = of_models(entry(**marked), entry(**marked, api_base="https://elsewhere"))
    assert len(read.faults) == 1


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "TOLLHOUSE_ANTHROPIC_API_KEY"])
def test_without_a_marked_entry_the_environments_credential_is_the_gateways(name):
    read = of_models(entry(api_key=SECRET), entry(api_key=OTHER), **{name: "sk-ant-env"})
    assert (read.settings, read.faults) == ({}, ())
    assert read.ignored == tuple(
        Ignored(f"model_list[{at}].litellm_params.api_key", risks.UNMARKED) for at in (0, 1)
    )


def test_of_a_marked_entry_and_another_key_in_the_environment_the_loser_is_named():
    marked = entry(api_key=SECRET, use_in_pass_through=True)
    read = of_models(marked, ANTHROPIC_API_KEY="sk-ant-env")
    risk = "model_list[0].litellm_params.api_key of the file goes before it, as it does in LiteLLM"
    assert read.ignored == (Ignored("ANTHROPIC_API_KEY of the environment", risk),)
    assert {each.path for each in read.outranked} == {
        "edge.upstream.api_key",
        "batch_tracker.upstream.api_key",
    }
    assert of_models(marked, ANTHROPIC_API_KEY=SECRET).ignored == ()
    read = of_models(marked, ANTHROPIC_AUTH_TOKEN="a-token")
    assert read.ignored == (Ignored("ANTHROPIC_AUTH_TOKEN of the environment", risk),)
    read = of_models(marked, TOLLHOUSE_ANTHROPIC_API_KEY="sk-ant-ours")
    risk = "TOLLHOUSE_ANTHROPIC_API_KEY of the environment goes before it, and says something else"
    assert read.ignored == (Ignored("model_list[0].litellm_params.api_key", risk),)


def test_the_address_in_the_environment_goes_before_a_marked_entrys_as_in_litellm():
    marked = entry(api_key=SECRET, api_base="https://a", use_in_pass_through=True)
    read = of_models(marked, ANTHROPIC_API_BASE="https://b")
    risk = "ANTHROPIC_API_BASE of the environment goes before it, and says something else"
    assert read.ignored == (Ignored("model_list[0].litellm_params.api_base", risk),)
    assert {each.name for each in read.outranked} == {"ANTHROPIC_API_KEY"}


def test_a_named_credential_gives_an_entry_its_key():
    read = translated(
        f"""
credential_list: [{{credential_name: one, credential_values: {{api_key: {SECRET}}}}}]
model_list: [{{model_name: a, litellm_params: {{model: anthropic/a, litellm_credential_name: one,
                                                  use_in_pass_through: true}}}}]
"""
    )
    assert (read.settings, read.faults) == (credential(api_key=SECRET), ())
    assert of_models(entry(litellm_credential_name="two")).faults == (
        "model_list[0].litellm_params.litellm_credential_name: not in credential_list",
    )


@pytest.mark.parametrize(
    "path",
    [
        "guardrails",
        "general_settings.allowed_routes",
        "general_settings.custom_auth",
        "general_settings.enable_jwt_auth",
        "general_settings.litellm_key_header_name",
        "general_settings.pass_through_endpoints",
        "general_settings.allowed_ips",
        "litellm_settings.callbacks",
        "litellm_settings.success_callback",
        "litellm_settings.max_budget",
    ],
)
def test_what_would_be_missed_is_said(path):
    section, _, name = path.partition(".")
    document = {"model_list": [], section: {name: ["langfuse"]} if name else ["x"]}
    (ignored,) = translate(document, {}, ENVIRONMENT).ignored
    assert (ignored.path, ignored.risk) == (path, risks.RISKS[path])


@pytest.mark.parametrize("value", [None, False, "", []])
def test_what_was_switched_off_is_missed_by_nobody(value):
    read = translate({"general_settings": {"enable_jwt_auth": value}}, {}, ENVIRONMENT)
    assert read.ignored == (Ignored("general_settings.enable_jwt_auth"),)


def test_a_budget_of_nothing_is_not_switched_off():
    (ignored,) = translate({"litellm_settings": {"max_budget": 0}}, {}, ENVIRONMENT).ignored
    assert ignored.risk


def test_model_names_of_the_operators_own_are_said_not_to_work():
    read = of_models({"model_name": "house-model", "litellm_params": {"model": "anthropic/claude-opus-6"}})
    assert read.ignored == (Ignored("model_list[0].model_name", risks.MODEL_NAME),)


def test_other_files_are_not_followed():
    assert translated("model_list: []\ninclude: [models.yaml]").faults == (
        "include: other files are not followed; write everything into this one",
    )


@pytest.mark.parametrize("section", ["model_list", "general_settings", "litellm_settings"])
def test_a_section_of_the_wrong_shape_is_a_fault(section):
    shape = "list" if section == "model_list" else "mapping"
    assert translated(f"{section}: {SECRET}").faults == (f"{section}: must be a {shape}",)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(SECRET) | st.just("os.environ/GONE"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("model_name", "litellm_params", "model", "api_key", "master_key", "callbacks")),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)
SECTION = st.sampled_from(
    ("model_list", "general_settings", "litellm_settings", "credential_list", "environment_variables", "x")
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(SECTION, JSON))
def test_whatever_a_file_holds_is_read_and_no_value_is_quoted(document):
    read = translate(document, {}, ENVIRONMENT)
    assert SECRET not in repr((read.origins, read.ignored, read.unset, read.faults))
