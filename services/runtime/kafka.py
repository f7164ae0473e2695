"""Says where Kafka is and how every client of ours speaks to it."""

from collections.abc import Iterable

import msgspec

from services.runtime.config import Variable


class KafkaConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The `kafka` section: one broker list for every service."""

    bootstrap_servers: str = "127.0.0.1:9092"
    replication_factor: int = 1
    min_insync_replicas: int = 1
    client_id: str = "tollhouse"
    request_timeout_ms: int = 20_000

    def faults(self) -> Iterable[str]:
        """Say which settings do not fit one another."""
        if not self.bootstrap_servers:
            yield "bootstrap_servers: must name at least one host:port"
        if not 1 <= self.min_insync_replicas <= self.replication_factor:
            yield "min_insync_replicas: must lie between 1 and replication_factor"


ENVIRONMENT = (Variable("KAFKA_BOOTSTRAP_SERVERS", "kafka.bootstrap_servers"),)
