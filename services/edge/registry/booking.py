"""Decides what a key and its team add to the attribution of a request: what the operator said goes first."""

import msgspec

from schemas.attribution import Attribution
from services.edge.attribution import METADATA_KEYS_MAX, TAGS_MAX
from services.edge.registry.rights import Grant
from services.runtime import metrics


def booked(attribution: Attribution, grant: Grant | None) -> Attribution:
    """Add alias, team, tags and metadata; a caller's metadata never replaces the operator's."""
    if grant is None:
        return attribution
    key, team = grant
    tags = tuple(dict.fromkeys((*key.tags, *(team.tags if team else ()), *attribution.tags)))
    metadata = {**(team.metadata if team else {}), **key.metadata}
    metadata |= {name: text for name, text in attribution.metadata.items() if name not in metadata}
    cut = {"tags": len(tags) - TAGS_MAX, "metadata": len(metadata) - METADATA_KEYS_MAX}
    for what, count in cut.items():
        if count > 0:
            metrics.edge_metadata_cut.labels(what).inc(count)
    return msgspec.structs.replace(
        attribution,
        key_alias=key.key_alias,
        team_id=key.team_id,
        tags=tags[:TAGS_MAX],
        metadata=dict(list(metadata.items())[:METADATA_KEYS_MAX]),
    )
