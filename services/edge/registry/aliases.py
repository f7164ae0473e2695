"""Decides which model goes up for the name that a caller asks by: one step, only where its key says so."""

from collections.abc import Mapping

from services.edge.registry.rights import PROVIDER, Grant

Aliases = Mapping[str, str]
"""For names that a caller may ask by, the model that goes up."""

NO_ALIASES: Aliases = {}


def aliases_of(grant: Grant | None) -> Aliases:
    """Give the aliases of the caller's key, the models as Anthropic names them."""
    if grant is None or not grant.key.aliases:
        return NO_ALIASES
    return {name: model.removeprefix(PROVIDER) for name, model in grant.key.aliases.items()}
