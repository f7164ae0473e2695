"""Three SDKs act one list of scenarios through an edge: they see Anthropic, and all of it is booked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.edge.config import EdgeConfig, UpstreamConfig
from services.local.anthropic.server import SimulatedAnthropic
from tests.clients.scenarios import BOOKED, SEEN
from tests.e2e.conftest import clean_environ
from tests.integration.edge.harness import Edge

HERE = Path(__file__).parent
PYTHON_1 = HERE.parents[1] / "build" / "clients" / "python-1" / "bin" / "python"
CLIENT_S_MAX = 120
GATEWAY_KEY = "sk-ant-gateway"

CLIENTS = {
    "python 1": ("1.", (PYTHON_1, HERE / "python_sdk.py")),
    "python 2": ("2.", (sys.executable, HERE / "python_sdk.py")),
    "typescript 1": ("1.", ("node", HERE / "typescript_sdk.mjs")),
}


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    with SimulatedAnthropic.in_thread(api_key=GATEWAY_KEY) as upstream:
        config = EdgeConfig(upstream=UpstreamConfig(base_url=upstream.base_url, api_key=GATEWAY_KEY))
        with Edge(tmp_path_factory.mktemp("spool"), config) as running:
            yield running


@pytest.mark.parametrize(("version", "program"), CLIENTS.values(), ids=CLIENTS)
def test_an_sdk_sees_what_it_would_of_anthropic_and_all_of_it_is_booked(edge, version, program):
    acted = subprocess.run(
        [*map(str, program), edge.base_url + "/anthropic"],
        capture_output=True,
        text=True,
        timeout=CLIENT_S_MAX,
        env=clean_environ(),
    )
    assert acted.returncode == 0, acted.stderr
    report = json.loads(acted.stdout)
    assert report.pop("version").startswith(version)
    assert report == SEEN
    assert booked(edge) == BOOKED


def booked(edge):
    """What was recorded, by the scenario that the client put into its tags."""
    scenarios = {}
    for exchanged in edge.take():
        used = exchanged.used
        (scenario,) = used.attribution.tags
        entry = (used.operation, used.outcome, used.http_status, used.usage_status)
        tokens = (used.tokens.input_tokens, used.tokens.output_tokens)
        scenarios.setdefault(scenario, []).append(entry + tokens)
    return scenarios
