"""Loads the price book: a file, the operator's overrides over it, all checked; one fault and none is used."""

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from services.rating.book import layers, yaml_text
from services.rating.book.check import findings
from services.rating.book.editions import edition_fault
from services.rating.book.layers import BookRead, Layer, ModelLayer
from services.rating.book.periods import edges, holding
from services.rating.book.price_book import ModelPrices, PriceBook, RequestPrices, Tier
from services.rating.book.rows import EDITIONS_PER_BOOK
from services.rating.errors import PriceBookFaults
from services.rating.exact import ONE

BUILT_IN = "prices.yaml"
LABEL_DIGITS = 12


class Reading(NamedTuple):
    """A price book that can be used, and what in it looks like an oversight all the same."""

    book: PriceBook
    findings: tuple[str, ...]


def load(prices: str = "", overrides: str = "") -> PriceBook:
    """Load the book at `prices`, else the built-in one, and lay the file at `overrides` over it.

    PriceBookFaults names every fault of both files.
    """
    return read(prices, overrides).book


def read(prices: str = "", overrides: str = "") -> Reading:
    """Load the price book as `load` does, and say what looks like an oversight."""
    faults: dict[str, list[str]] = {prices or BUILT_IN: [], overrides or "overrides": []}
    of_book, of_overrides = faults.values()
    text = yaml_text.read(Path(prices), of_book) if prices else _built_in()
    base = _base(text, of_book)
    if base is not None and not prices:
        of_book.extend(edition_fault(base.book_seq, _assembled(base, base.layer, 0).content_hash))
    over = None
    if overrides:
        text = yaml_text.read(Path(overrides), of_overrides)
        document = yaml_text.document(text, of_overrides)
        over = None if of_overrides else layers.overrides(document, of_overrides)
    layer = base.layer if base is not None else None
    if layer is not None and over is not None:
        layer = layers.merged(layer, over.layer, of_overrides)
    if base is None or layer is None or any(faults.values()):
        raise PriceBookFaults(faults)
    edition = over.edition if over is not None else 0
    return Reading(_assembled(base, layer, edition), findings(layer))


def parse(text: bytes, source: str) -> PriceBook:
    """Read a price book without overrides; `source` is what the report of faults calls it."""
    faults: list[str] = []
    base = _base(text, faults)
    if base is None or faults:
        raise PriceBookFaults({source: faults})
    return _assembled(base, base.layer, 0)


def _built_in() -> bytes:
    return resources.files("services.rating.book").joinpath(BUILT_IN).read_bytes()


def _base(text: bytes, faults: list[str]) -> BookRead | None:
    document = yaml_text.document(text, faults)
    if faults:
        return None
    read = layers.book(document, faults)
    if read is not None:
        layers.names_of(read.layer.models, faults)
    return read


def _assembled(base: BookRead, layer: Layer, edition: int) -> PriceBook:
    """Put together what rating looks prices up in; its number tells both editions."""
    models = {name: _timeline(name, model, layer) for name, model in layer.models.items()}
    names = layers.names_of(layer.models, [])
    requests = tuple(
        RequestPrices(
            effective_from=each.start,
            effective_to=each.end,
            web_search=each.item.per_request()[0],
            web_fetch=each.item.per_request()[1],
            source=each.item.source,
            checked=each.item.checked,
        )
        for each in layer.requests
    )
    content = _content(layer, names, models, requests)
    content_hash = hashlib.sha256(content.encode()).hexdigest()
    return PriceBook(
        name=base.name,
        book_seq=base.book_seq * EDITIONS_PER_BOOK + edition,
        label=f"{base.name}-{content_hash[:LABEL_DIGITS]}",
        content=content,
        content_hash=content_hash,
        names=names,
        models=models,
        requests=requests,
        service_tiers=layer.service_tiers,
        inference_geos=layer.inference_geos,
        free_operations=layer.free_operations,
        free_endpoints=layer.free_endpoints,
    )


def _timeline(name: str, model: ModelLayer, layer: Layer) -> tuple[ModelPrices, ...]:
    """Cut the time that has standard prices wherever those, fast mode's or the discount change."""
    discounts = layers.discounts_for(name, layer.discounts)
    timeline: list[ModelPrices] = []
    for start, end in pairwise([*edges(model.standard, model.fast, discounts), None]):
        assert start is not None
        standard, fast = holding(model.standard, start), holding(model.fast, start)
        discount = holding(discounts, start)
        if standard is None:
            continue
        timeline.append(
            ModelPrices(
                model=name,
                is_geo_priced=bool(model.is_geo_priced),
                effective_from=start,
                effective_to=end,
                standard=standard.tiers,
                fast=() if fast is None else fast.tiers,
                discount=ONE if discount is None else discount.factor,
                discount_source="" if discount is None else discount.source,
            )
        )
    return tuple(timeline)


def _content(
    layer: Layer,
    names: Mapping[str, str],
    models: Mapping[str, tuple[ModelPrices, ...]],
    requests: tuple[RequestPrices, ...],
) -> str:
    """Write all that decides a price, and nothing else, in the one way it can be written."""
    said = {
        "aliases": {alias: name for alias, name in names.items() if alias != name},
        "free": {"endpoints": sorted(layer.free_endpoints), "operations": sorted(layer.free_operations)},
        "inference_geo": {name: f"{value:f}" for name, value in layer.inference_geos.items()},
        "models": {name: [_prices(each) for each in periods] for name, periods in models.items()},
        "requests": [
            {
                "effective_from": each.effective_from,
                "effective_to": each.effective_to,
                "web_fetch": f"{each.web_fetch:f}",
                "web_search": f"{each.web_search:f}",
            }
            for each in requests
        ],
        "service_tier": {name: f"{value:f}" for name, value in layer.service_tiers.items()},
    }
    return msgspec.json.encode(said, order="sorted").decode()


def _prices(prices: ModelPrices) -> dict[str, object]:
    return {
        "discount": f"{prices.discount:f}",
        "effective_from": prices.effective_from,
        "effective_to": prices.effective_to,
        "fast": [_tier(each) for each in prices.fast],
        "is_geo_priced": prices.is_geo_priced,
        "standard": [_tier(each) for each in prices.standard],
    }


def _tier(tier: Tier) -> dict[str, object]:
    rates = zip(tier.rates._fields, tier.rates, strict=True)
    return {"above_prompt_tokens": tier.above_prompt_tokens, **{name: _text(rate) for name, rate in rates}}


def _text(rate: Decimal | None) -> str | None:
    return None if rate is None else f"{rate:f}"
