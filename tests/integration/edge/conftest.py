"""One simulated Anthropic API and one edge before it for every module that asks for them."""

import pytest

from services.edge.config import EdgeConfig, UpstreamConfig
from services.local.anthropic.server import SimulatedAnthropic
from tests.integration.edge.harness import Edge, plain_client

GATEWAY_KEY = "sk-ant-gateway"


@pytest.fixture(scope="module")
def upstream():
    with SimulatedAnthropic.in_thread(api_key=GATEWAY_KEY) as simulated:
        yield simulated


@pytest.fixture(scope="module")
def module_edge(tmp_path_factory, upstream):
    config = EdgeConfig(
        body_bytes_max=1024 * 1024,
        upstream=UpstreamConfig(base_url=upstream.base_url, api_key=GATEWAY_KEY),
    )
    with Edge(tmp_path_factory.mktemp("spool"), config) as running:
        yield running


@pytest.fixture
def edge(module_edge):
    """The module's edge; what an earlier test left untaken is passed over."""
    module_edge.pass_over()
    return module_edge


@pytest.fixture
def client():
    with plain_client() as plain:
        yield plain
