"""Says where Kafka is and how every client of ours speaks to it."""

import re
from collections.abc import Iterable

import msgspec
from aiokafka.structs import ConsumerRecord

from services.runtime.config import Variable
from services.runtime.records import ConsumedRecord

PORT_MAX = 65535
# A name, an IPv4 address or an IPv6 address in brackets; the port may be left to be Kafka's 9092.
_SERVER = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+)(?::(\d{1,5}))?")


class KafkaConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The `kafka` section: one broker list for every service."""

    bootstrap_servers: str = "127.0.0.1:9092"
    replication_factor: int = 1
    min_insync_replicas: int = 1
    client_id: str = "tollhouse"
    request_timeout_ms: int = 20_000

    def faults(self) -> Iterable[str]:
        """Say which settings do not fit one another."""
        if not all(_is_server(part.strip()) for part in self.bootstrap_servers.split(",")):
            yield "bootstrap_servers: must name at least one host:port, with commas between them"
        if not 1 <= self.min_insync_replicas <= self.replication_factor:
            yield "min_insync_replicas: must lie between 1 and replication_factor"
        if self.request_timeout_ms < 1:
            yield "request_timeout_ms: must be above 0"


def consumed(record: ConsumerRecord[bytes | None, bytes | None]) -> ConsumedRecord:
    """Give a record of the client library as the deciding code knows it."""
    return ConsumedRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        # Kafka knows headers without a value; ours have an empty one.
        tuple((name, bytes(value or b"")) for name, value in record.headers),
    )


def _is_server(text: str) -> bool:
    found = _SERVER.fullmatch(text)
    return found is not None and int(found[1] or 1) <= PORT_MAX


ENVIRONMENT = (Variable("KAFKA_BOOTSTRAP_SERVERS", "kafka.bootstrap_servers"),)
