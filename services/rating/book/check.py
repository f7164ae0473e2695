"""Looks over a price book as a whole: gaps, forgotten tiers, discounts that never count; changes nothing."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from services.rating.book.layers import Card, Layer, ModelLayer
from services.rating.book.periods import Dated


def findings(layer: Layer) -> tuple[str, ...]:
    """Say what can be used but looks like an oversight."""
    found: list[str] = []
    for name, model in layer.models.items():
        found.extend(_gaps(f"models.{name}.prices", model.standard))
        found.extend(_missing_tiers(f"models.{name}.prices", model.standard, ()))
        found.extend(_missing_tiers(f"models.{name}.fast", model.fast, model.standard))
        found.extend(_fast_alone(name, model))
        if model.is_geo_priced is None:
            found.append(f"models.{name}.is_geo_priced: say whether a region costs more; left out, none does")
    found.extend(_gaps("requests", layer.requests))
    found.extend(_idle_discounts(layer))
    return tuple(found)


def _gaps(where: str, periods: Sequence[Dated[object]]) -> Iterable[str]:
    for earlier, later in pairwise(periods):
        if earlier.end is not None and earlier.end < later.start:
            yield f"{where}: nothing has a price from {earlier.end:%Y-%m-%d} until {later.start:%Y-%m-%d}"


def _missing_tiers(where: str, cards: Sequence[Dated[Card]], beside: Sequence[Dated[Card]]) -> Iterable[str]:
    """Name rows without `above` that follow, or stand beside, one with tiers: [] would say it is meant."""
    before: Sequence[Dated[Card]] = ()
    for card in cards:
        around = (*before, *(each for each in beside if each.meets(card)))
        tiered = [each for each in around if len(each.item.tiers) > 1]
        if tiered and not card.item.says_tiers:
            edges = ", ".join(str(tier.above_prompt_tokens) for tier in tiered[-1].item.tiers[1:])
            yield (
                f"{where}: the row of {card.start:%Y-%m-%d} has no tier above {edges} prompt tokens, "
                "as another has; say `above: []` if longer prompts cost no more"
            )
        before = (card,)


def _fast_alone(name: str, model: ModelLayer) -> Iterable[str]:
    for fast in model.fast:
        if not any(each.meets(fast) for each in model.standard):
            yield f"models.{name}.fast: the row of {fast.start:%Y-%m-%d} has no standard price beside it"


def _idle_discounts(layer: Layer) -> Iterable[str]:
    """Name discounts that never count, because an earlier one holds for the same models all the time."""
    for place, each in enumerate(layer.discounts):
        reached = [name for name in layer.models if each.item.reaches(name)]
        earlier = layer.discounts[:place]
        if reached and all(
            any(one.item.reaches(name) and _spans(one, each) for one in earlier) for name in reached
        ):
            yield f"discounts[{place}]: never counts, as an earlier one holds for the same models"


def _spans(one: Dated[object], other: Dated[object]) -> bool:
    return one.start <= other.start and (one.end is None or (other.end is not None and other.end <= one.end))
