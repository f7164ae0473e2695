"""A log in memory and edges on it, each of which reads on when it is told to: races that end the same way."""

from schemas.keys import EndUser, Team, VirtualKey, record_key
from services.edge.registry.key_log import KeyLog
from services.edge.registry.table import KeyTable, Registry
from services.edge.registry.writer import Writer


class SharedLog:
    """Records in the order of their writing, as (Kafka key, value); a value of None is a tombstone."""

    def __init__(self):
        self.records = []

    def compacted(self):
        """What Kafka keeps: the last record of each key, in its place, and no tombstones after a while."""
        last = {key: offset for offset, (key, _) in enumerate(self.records)}
        kept = SharedLog()
        kept.records = [
            (key, value)
            for offset, (key, value) in enumerate(self.records)
            if last[key] == offset and value is not None
        ]
        return kept

    def tombstones(self):
        return [key for key, value in self.records if value is None]


class Edge:
    """Reads the log for itself; what others write it knows once it has caught up."""

    def __init__(self, log, **limits):
        self.log = log
        self.registry = Registry()
        self.key_log = KeyLog(self.registry)
        self.position = 0
        self.before_publishing = lambda: None
        self.writer = Writer(self.registry, self.key_log, self, "edge", **limits)
        self.catch_up()

    @property
    def table(self) -> KeyTable:
        return self.registry.table

    def catch_up(self):
        """Read to the end of the log."""
        for key, value in self.log.records[self.position :]:
            self.key_log.take(key, value)
        self.position = len(self.log.records)
        self.key_log.come_to_end()

    async def publish(self, records):
        """Be the writer's publisher: append, and read back."""
        self.before_publishing()
        self.log.records += [(each.key.decode(), each.value) for each in records]
        self.catch_up()
        return []

    async def close(self):
        """Hold nothing."""


def rebuilt(log):
    """An edge that reads what Kafka has kept of the log."""
    return Edge(log.compacted())


def said(edge, secrets=()):
    """All that an edge can say: its records, the owner of every alias, and the owners of these secrets."""
    entries = [*edge.table.standing(""), *edge.table.deleted()]
    aliases = {alias: edge.table.key_of_alias(alias).virtual_key_id for alias in edge.table.aliases()}
    return (
        {record_key(each): each for each in entries},
        aliases,
        {each: edge.table.key_of_digest(each) for each in secrets},
    )


def team(team_id, now, **fields):
    return Team(team_id=team_id, revision=1, created_at=now, updated_at=now, **fields)


def key(key_id, now, **fields):
    return VirtualKey(virtual_key_id=key_id, revision=1, created_at=now, updated_at=now, **fields)


def end_user(end_user_id, now, **fields):
    return EndUser(end_user_id=end_user_id, revision=1, created_at=now, updated_at=now, **fields)
