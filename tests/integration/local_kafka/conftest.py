import pytest

from tests.integration.local_kafka.brokers import BrokerProcess


@pytest.fixture
def broker_process(tmp_path):
    process = BrokerProcess(tmp_path / "data")
    yield process.start()
    process.stop()
