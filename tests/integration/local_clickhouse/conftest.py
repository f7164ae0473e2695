"""One server for all tests of this folder, and one database for each of them."""

import uuid

import pytest

from tests.integration.local_clickhouse.server import LocalClickHouse
from tests.integration.local_clickhouse.target import URL, Target


@pytest.fixture
def start_server(tmp_path):
    """Start stand-ins of a test's own; what still runs at its end is killed."""
    servers = []

    def start(*options, data_dir=tmp_path / "clickhouse", **account):
        servers.append(LocalClickHouse(data_dir, *options, **account))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The stand-in's process, for what only it promises."""
    server = LocalClickHouse(tmp_path_factory.mktemp("local_clickhouse"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def target(request):
    """The server under test."""
    if URL:
        return Target(URL)
    return Target(f"http://127.0.0.1:{request.getfixturevalue('server').port}")


@pytest.fixture
def database(target):
    name = f"test_{uuid.uuid4().hex}"
    with target.client(autogenerate_session_id=False) as client:
        client.command(f"CREATE DATABASE {name}")
        yield name
        client.command(f"DROP DATABASE {name}")


@pytest.fixture
def client(target, database):
    with target.client(database=database, autogenerate_session_id=False) as client:
        yield client


@pytest.fixture
def table(client):
    client.command(
        "CREATE TABLE usage (id UInt64, at DateTime64(3, 'UTC'), model LowCardinality(String),"
        " cost Decimal(18, 12), tags Map(String, String)) ENGINE = MergeTree ORDER BY id"
        " SETTINGS non_replicated_deduplication_window = 100"
    )
    return "usage"
