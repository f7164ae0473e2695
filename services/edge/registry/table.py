"""Holds what the registry says now, and finds keys by the digest of their secrets; no secret, no I/O.

Records are held as they are written, and read when they are asked for: a hundred thousand of them are then
bytes, which the garbage collector does not walk; as objects they made it stop the process for 0.4 s.
"""

from collections.abc import Iterator

import msgspec

from schemas.ids import VirtualKeyId
from schemas.keys import EndUser, Team, VirtualKey, record_key

Entry = VirtualKey | Team | EndUser
KEY, TEAM, END_USER = "virtual_key:", "team:", "end_user:"

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Entry)


class _Owners:
    """Which key has a name: the one that was written last, and when that one gives it up the one before.

    Two edges may give one name away in the same moment; whoever reads the log comes to the same owner.
    """

    def __init__(self) -> None:
        self._last: dict[str, VirtualKeyId] = {}
        self._before: dict[str, tuple[VirtualKeyId, ...]] = {}

    def add(self, name: str, owner: VirtualKeyId) -> None:
        """Let a key, which does not have this name yet, be its owner."""
        last = self._last.get(name)
        if last is not None:
            self._before[name] = (*self._before.get(name, ()), last)
        self._last[name] = owner

    def remove(self, name: str, owner: VirtualKeyId) -> None:
        """Take the name away from a key."""
        last = self._last.pop(name, None)
        owners = (*self._before.pop(name, ()), *(() if last is None else (last,)))
        for each in owners:
            if each != owner:
                self.add(name, each)

    def of(self, name: str) -> VirtualKeyId | None:
        """Give the owner."""
        return self._last.get(name)

    def names(self) -> list[str]:
        """Give every name that has one."""
        return list(self._last)


class KeyTable:
    """Every record by its Kafka key, the last one of each; what is deleted stays until its tombstone."""

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}
        self._by_digest = _Owners()
        self._by_alias = _Owners()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: Entry) -> None:
        """Take in a record in place of the one before it; another thread finds one of the two."""
        name = record_key(entry)
        self._release(name)
        self._entries[name] = _ENCODER.encode(entry)
        if isinstance(entry, VirtualKey) and entry.deleted_at is None:
            for digest in {each.sha256 for each in entry.hashes}:
                self._by_digest.add(digest, entry.virtual_key_id)
            if entry.key_alias:
                self._by_alias.add(entry.key_alias, entry.virtual_key_id)

    def remove(self, name: str) -> None:
        """Forget a record, by its Kafka key."""
        self._release(name)
        self._entries.pop(name, None)

    def get(self, name: str) -> Entry | None:
        """Give the record with that Kafka key, deleted or not."""
        found = self._entries.get(name)
        return None if found is None else _DECODER.decode(found)

    def standing(self, prefix: str) -> Iterator[Entry]:
        """Walk the records of one kind that are not deleted, as they are at the call; 4 us each.

        Of keys there can be many: walk them beside the event loop.
        """
        held = [value for name, value in self._entries.items() if name.startswith(prefix)]
        return (entry for entry in map(_DECODER.decode, held) if entry.deleted_at is None)

    def deleted(self) -> Iterator[Entry]:
        """Walk the records that are deleted, likewise."""
        held = list(self._entries.values())
        return (entry for entry in map(_DECODER.decode, held) if entry.deleted_at is not None)

    def key(self, key_id: str) -> VirtualKey | None:
        """Give the key with that id, unless it is deleted."""
        found = self.get(KEY + key_id)
        return found if isinstance(found, VirtualKey) and found.deleted_at is None else None

    def key_of_digest(self, digest: str) -> VirtualKey | None:
        """Give the key that owns this secret, by the secret's digest."""
        key_id = self._by_digest.of(digest)
        return None if key_id is None else self.key(key_id)

    def key_of_alias(self, alias: str) -> VirtualKey | None:
        """Give the key with that alias."""
        key_id = self._by_alias.of(alias)
        return None if key_id is None else self.key(key_id)

    def aliases(self) -> list[str]:
        """Give every alias that a key has."""
        return self._by_alias.names()

    def team(self, team_id: str) -> Team | None:
        """Give the team with that id, unless it is deleted."""
        found = self.get(TEAM + team_id)
        return found if isinstance(found, Team) and found.deleted_at is None else None

    def end_user(self, end_user_id: str) -> EndUser | None:
        """Give the end user with that id, unless there is no record or it is deleted."""
        found = self.get(END_USER + end_user_id)
        return found if isinstance(found, EndUser) and found.deleted_at is None else None

    def _release(self, name: str) -> None:
        """Take from a key the names that it is found by."""
        entry = self.get(name)
        if not isinstance(entry, VirtualKey):
            return
        for each in entry.hashes:
            self._by_digest.remove(each.sha256, entry.virtual_key_id)
        if entry.key_alias:
            self._by_alias.remove(entry.key_alias, entry.virtual_key_id)


class Registry:
    """The table in force; until it `is_read` nobody can say which keys there are."""

    def __init__(self, *, is_read: bool = False) -> None:
        self.table = KeyTable()
        self.is_read = is_read
