"""Which model goes up for a name, and for whom."""

from datetime import UTC, datetime

from schemas.keys import VirtualKey
from services.edge.registry.aliases import aliases_of
from services.edge.registry.rights import Grant

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def grant(**fields):
    return Grant(VirtualKey(virtual_key_id="vk_1", revision=1, created_at=NOW, updated_at=NOW, **fields))


def test_without_a_key_or_without_aliases_every_name_is_itself():
    assert [aliases_of(None), aliases_of(grant())] == [{}, {}]


def test_litellms_prefix_of_a_model_is_understood_and_not_sent_up():
    given = {"fast": "anthropic/claude-haiku-4-5", "anthropic/slow": "claude-opus-4-5"}
    assert aliases_of(grant(aliases=given)) == {
        "fast": "claude-haiku-4-5",
        "anthropic/slow": "claude-opus-4-5",
    }
