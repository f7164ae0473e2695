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


class KeyTable:
    """Every record by its Kafka key, the last one of each; what is deleted stays until its tombstone."""

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}
        self._by_digest: dict[str, VirtualKeyId] = {}
        self._by_alias: dict[str, VirtualKeyId] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: Entry) -> None:
        """Take in a record in place of the one before it."""
        name = record_key(entry)
        self.remove(name)
        self._entries[name] = _ENCODER.encode(entry)
        if isinstance(entry, VirtualKey) and entry.deleted_at is None:
            self._by_digest.update((each.sha256, entry.virtual_key_id) for each in entry.hashes)
            if entry.key_alias:
                self._by_alias[entry.key_alias] = entry.virtual_key_id

    def remove(self, name: str) -> None:
        """Forget a record, by its Kafka key."""
        entry = self.get(name)
        self._entries.pop(name, None)
        if not isinstance(entry, VirtualKey):
            return
        for each in entry.hashes:
            if self._by_digest.get(each.sha256) == entry.virtual_key_id:
                del self._by_digest[each.sha256]
        if self._by_alias.get(entry.key_alias) == entry.virtual_key_id:
            del self._by_alias[entry.key_alias]

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
        key_id = self._by_digest.get(digest)
        return None if key_id is None else self.key(key_id)

    def key_of_alias(self, alias: str) -> VirtualKey | None:
        """Give the key with that alias."""
        key_id = self._by_alias.get(alias)
        return None if key_id is None else self.key(key_id)

    def aliases(self) -> list[str]:
        """Give every alias that a key has."""
        return list(self._by_alias)

    def team(self, team_id: str) -> Team | None:
        """Give the team with that id, unless it is deleted."""
        found = self.get(TEAM + team_id)
        return found if isinstance(found, Team) and found.deleted_at is None else None

    def end_user(self, end_user_id: str) -> EndUser | None:
        """Give the end user with that id, unless there is no record or it is deleted."""
        found = self.get(END_USER + end_user_id)
        return found if isinstance(found, EndUser) and found.deleted_at is None else None


class Registry:
    """The table in force; until it `is_read` nobody can say which keys there are."""

    def __init__(self, *, is_read: bool = False) -> None:
        self.table = KeyTable()
        self.is_read = is_read
