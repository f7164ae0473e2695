"""Decides which names a model id may stand under in a price book; never guesses a neighbour's price."""

import re

# `claude-opus-4-5-20251101`: a dated snapshot costs what its model costs.
_SNAPSHOT = re.compile(r"[-@]20\d{6}$")
# Claude Code's own spelling for a context of a million tokens; the API knows the id without it.
_LONG_CONTEXT = "[1m]"


def names_of(model_id: str) -> tuple[str, ...]:
    """Give the names to look for; the id itself is first, so that a snapshot may have an entry of its own."""
    bare = model_id.strip().lower().removesuffix(_LONG_CONTEXT)
    return tuple(dict.fromkeys((model_id, bare, _SNAPSHOT.sub("", bare))))
