"""The local stack gives each child what it needs, and its credentials to nobody else."""

from pathlib import Path

from services.local.plan import SECRETS, StackOptions, plan


def laid_out(**options):
    return plan(
        StackOptions(
            port=4000,
            kafka_port=9092,
            clickhouse_port=8123,
            data_dir=Path("/data"),
            upstream="https://api.anthropic.com",
            **options,
        )
    )


def test_only_edge_and_batch_tracker_see_anthropics_credentials_and_only_the_edge_the_master_key():
    layout = laid_out(is_simulated=True)
    seen = {child.name: child.secrets for child in (*layout.servers, *layout.services) if child.secrets}
    anthropic = frozenset(("TOLLHOUSE_ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"))
    assert seen == {
        "edge": anthropic | {"TOLLHOUSE_MASTER_KEY", "LITELLM_MASTER_KEY"},
        "batch-tracker": anthropic,
        "sink": frozenset(("CLICKHOUSE_PASSWORD",)),
        "clickhouse": frozenset(("CLICKHOUSE_PASSWORD",)),
    }
    assert frozenset.union(*seen.values()) == SECRETS


def test_a_server_that_is_configured_is_not_started():
    layout = laid_out(kafka="kafka:9092", clickhouse="http://clickhouse:8123")
    assert layout.servers == ()
    assert [child.name for child in layout.services] == ["edge", "rating", "sink", "batch-tracker"]
    assert layout.environ["KAFKA_BOOTSTRAP_SERVERS"] == "kafka:9092"
    assert layout.environ["CLICKHOUSE_URL"] == "http://clickhouse:8123"


def test_a_simulation_never_sees_a_real_key():
    environ = laid_out(is_simulated=True).environ
    assert environ["TOLLHOUSE_ANTHROPIC_API_KEY"] == "sk-ant-simulated"  # before whatever a file says
    assert (environ["ANTHROPIC_API_KEY"], environ["ANTHROPIC_AUTH_TOKEN"]) == ("", "")
    assert environ["ANTHROPIC_API_BASE"] == "http://127.0.0.1:4003"


def test_a_person_is_told_under_whose_key_requests_go_up():
    told = [dict(laid_out(**each).addresses)["upstream"] for each in ({}, {"has_credential": True})]
    assert told == [
        "https://api.anthropic.com   (under each caller's own key)",
        "https://api.anthropic.com   (under the gateway's credential)",
    ]
