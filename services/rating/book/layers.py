"""Reads what one file says about prices, and lays an operator's overrides over a book; prices nothing."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

from services.rating.book import yaml_text
from services.rating.book.overrides import (
    DiscountRow,
    FreeOverrides,
    ModelOverride,
    ModifierOverrides,
    OverridesFile,
)
from services.rating.book.periods import Dated, laid, overlaid
from services.rating.book.price_book import Tier
from services.rating.book.rows import BookFile, ModelEntry, PriceRow, RequestRow, TierRow
from services.rating.exact import plain


class Card(NamedTuple):
    """The prices of one row, tier by tier; `says_tiers` where the row speaks of longer prompts at all."""

    tiers: tuple[Tier, ...]
    says_tiers: bool


class ModelLayer(NamedTuple):
    """What a file says about one model; `is_geo_priced` is None where it does not say."""

    is_geo_priced: bool | None
    aliases: tuple[str, ...]
    standard: tuple[Dated[Card], ...]
    fast: tuple[Dated[Card], ...]


class Discount(NamedTuple):
    """A factor on the token prices of some models."""

    patterns: tuple[str, ...]
    factor: Decimal
    source: str

    def reaches(self, model: str) -> bool:
        """Whether one of its patterns names the model."""
        return any(fnmatchcase(model, pattern) for pattern in self.patterns)


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says, or several laid over one another."""

    models: Mapping[str, ModelLayer]
    requests: tuple[Dated[RequestRow], ...]
    service_tiers: Mapping[str, Decimal]
    inference_geos: Mapping[str, Decimal]
    free_operations: frozenset[str] = frozenset()
    free_endpoints: frozenset[str] = frozenset()
    discounts: tuple[Dated[Discount], ...] = ()


class BookRead(NamedTuple):
    """A book's head and what it says."""

    name: str
    book_seq: int
    layer: Layer


class OverridesRead(NamedTuple):
    """The overrides' edition and what they say."""

    edition: int
    layer: Layer


def book(document: Mapping[str, object], faults: list[str]) -> BookRead | None:
    """Read a price book; None where its head cannot be read."""
    head = yaml_text.decoded(BookFile, document, "book", faults)
    models = {
        name: _model(ModelEntry, name, raw, faults)
        for name, raw in yaml_text.mapping(document.get("models")).items()
    }
    requests = _requests(document, faults)
    if head is None or faults:
        return None
    layer = Layer(
        models=models,
        requests=requests,
        service_tiers=_amounts(head.modifiers.service_tier),
        inference_geos=_amounts(head.modifiers.inference_geo),
        free_operations=frozenset[str](head.free.operations),
        free_endpoints=frozenset(head.free.endpoints),
    )
    return BookRead(head.name, head.book_seq, layer)


def overrides(document: Mapping[str, object], faults: list[str]) -> OverridesRead | None:
    """Read an operator's overrides; None where they have faults."""
    head = yaml_text.decoded(OverridesFile, document, "overrides", faults)
    models = {
        name: _model(ModelOverride, name, raw, faults)
        for name, raw in yaml_text.mapping(document.get("models")).items()
    }
    requests = _requests(document, faults)
    discounts = tuple(
        laid([(row, Discount(row.models, plain(row.factor), row.source))], "discounts", faults)[0]
        for row in yaml_text.decoded_each(DiscountRow, document.get("discounts"), "discounts", faults)
    )
    modifiers = _member(ModifierOverrides, document, "modifiers", faults)
    free = _member(FreeOverrides, document, "free", faults)
    if head is None or faults:
        return None
    layer = Layer(
        models=models,
        requests=requests,
        service_tiers=_amounts(modifiers.service_tier) if modifiers else {},
        inference_geos=_amounts(modifiers.inference_geo) if modifiers else {},
        free_endpoints=frozenset(free.endpoints) if free else frozenset(),
        discounts=discounts,
    )
    return OverridesRead(head.edition, layer)


def merged(base: Layer, over: Layer, faults: list[str]) -> Layer:
    """Lay overrides over a book: their rows replace what it says of the same time, the rest of it stays."""
    models = dict(base.models)
    names = names_of(base.models, [])
    for name, layer in over.models.items():
        below = base.models.get(name)
        if below is None and name in names:
            faults.append(f"models.{name}: is another name of {names[name]}, which is the one to override")
        elif below is None and not layer.standard:
            faults.append(f"models.{name}.prices: is required for a model that the book does not have")
        models[name] = layer if below is None else _over_model(below, layer)
    for place, each in enumerate(over.discounts):
        for pattern in each.item.patterns:
            if not any(fnmatchcase(name, pattern) for name in models):
                faults.append(f"discounts[{place}].models: {pattern} matches no model of the book")
    if not faults:
        names_of(models, faults)
    return Layer(
        models=models,
        requests=overlaid(base.requests, over.requests),
        service_tiers={**base.service_tiers, **over.service_tiers},
        inference_geos={**base.inference_geos, **over.inference_geos},
        free_operations=base.free_operations,
        free_endpoints=base.free_endpoints | over.free_endpoints,
        discounts=over.discounts,
    )


def names_of(models: Mapping[str, ModelLayer], faults: list[str]) -> dict[str, str]:
    """Map every name to its model; a name may stand for one model only."""
    names = {name: name for name in models}
    for model, layer in models.items():
        for alias in layer.aliases:
            if alias in names:
                faults.append(f"models.{model}.aliases: {alias} already names {names[alias]}")
            names[alias] = model
    return names


def _member(
    struct: type[yaml_text.Row], document: Mapping[str, object], name: str, faults: list[str]
) -> yaml_text.Row | None:
    """Decode a member that may be left out."""
    return yaml_text.decoded(struct, document[name], name, faults) if name in document else None


def _over_model(below: ModelLayer, over: ModelLayer) -> ModelLayer:
    return ModelLayer(
        is_geo_priced=below.is_geo_priced if over.is_geo_priced is None else over.is_geo_priced,
        aliases=(*below.aliases, *over.aliases),
        standard=overlaid(below.standard, over.standard),
        fast=overlaid(below.fast, over.fast),
    )


def _model(
    struct: type[ModelEntry] | type[ModelOverride], name: str, raw: object, faults: list[str]
) -> ModelLayer:
    where = f"models.{name}"
    entry: ModelEntry | ModelOverride | None = yaml_text.decoded(struct, raw, where, faults)
    members = yaml_text.mapping(raw)
    standard = _cards(members.get("prices"), f"{where}.prices", faults)
    fast = _cards(members.get("fast"), f"{where}.fast", faults)
    if entry is None:
        return ModelLayer(None, (), standard, fast)
    return ModelLayer(entry.is_geo_priced, entry.aliases, standard, fast)


def _cards(raw: object, where: str, faults: list[str]) -> tuple[Dated[Card], ...]:
    rows: list[tuple[PriceRow, Card]] = []
    for place, each in enumerate(yaml_text.sequence(raw)):
        row = yaml_text.decoded(PriceRow, each, f"{where}[{place}]", faults)
        if row is not None:
            rows.append((row, Card(_tiers(row, f"{where}[{place}].above", faults), row.above is not None)))
    return laid(rows, where, faults)


def _tiers(row: PriceRow, where: str, faults: list[str]) -> tuple[Tier, ...]:
    tiers = [Tier(above_prompt_tokens=0, rates=row.prices().rates(), source=row.source, checked=row.checked)]
    for place, each in enumerate(row.above or ()):
        above = yaml_text.decoded(TierRow, each, f"{where}[{place}]", faults)
        if above is None:
            continue
        if above.prompt_tokens <= tiers[-1].above_prompt_tokens:
            faults.append(f"{where}[{place}].prompt_tokens: must rise from tier to tier")
        rates = above.prices().rates()
        tier = msgspec.structs.replace(tiers[0], above_prompt_tokens=above.prompt_tokens, rates=rates)
        tiers.append(tier)
    return tuple(tiers)


def _requests(document: Mapping[str, object], faults: list[str]) -> tuple[Dated[RequestRow], ...]:
    rows = yaml_text.decoded_each(RequestRow, document.get("requests"), "requests", faults)
    return laid([(row, row) for row in rows], "requests", faults)


def _amounts(texts: Mapping[str, str]) -> dict[str, Decimal]:
    return {name: plain(text) for name, text in texts.items()}


def discounts_for(model: str, discounts: Sequence[Dated[Discount]]) -> tuple[Dated[Discount], ...]:
    """Give the discounts that reach a model, in their order: the first that holds is the one that counts."""
    return tuple(each for each in discounts if each.item.reaches(model))
