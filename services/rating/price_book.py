"""Answers what a model cost at a time, and under which book; holds no file and no rule of billing."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec

from services.rating.models import names_of

HASH_DIGITS = 12


class Rates(NamedTuple):
    """USD for one token of each dimension, in the order of `attempts.Tokens`."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """Rates for every token of an attempt whose prompt is longer than `above_prompt_tokens`."""

    above_prompt_tokens: int
    rates: Rates


class ModelPrices(msgspec.Struct, frozen=True, kw_only=True):
    """What one model costs from one day to another; `fast` is empty where fast mode has no price.

    Tiers rise by `above_prompt_tokens`, the first is for every prompt. Times are a closed start and an
    open end.
    """

    model: str
    is_geo_priced: bool
    effective_from: datetime
    effective_to: datetime | None
    standard: tuple[Tier, ...]
    fast: tuple[Tier, ...] = ()


class RequestPrices(msgspec.Struct, frozen=True, kw_only=True):
    """USD for one request of each server tool, from one day to another."""

    effective_from: datetime
    effective_to: datetime | None
    web_search: Decimal
    web_fetch: Decimal


class PriceBook(msgspec.Struct, frozen=True, kw_only=True):
    """Every price that rating knows; `book_seq` rises with each edition, `label` names this one."""

    name: str
    book_seq: int
    label: str
    names: Mapping[str, str]
    models: Mapping[str, tuple[ModelPrices, ...]]
    requests: tuple[RequestPrices, ...]
    service_tiers: Mapping[str, Decimal]
    inference_geos: Mapping[str, Decimal]
    free_operations: frozenset[str]
    free_endpoints: frozenset[str]

    def canonical(self, model_id: str) -> str | None:
        """Give the model's name in this book, whatever alias or dated id it came under."""
        name = self.names.get(model_id)
        if name is not None:
            return name
        for candidate in names_of(model_id):
            name = self.names.get(candidate)
            if name is not None:
                return name
        return None

    def find(self, model_id: str, at: datetime) -> ModelPrices | None:
        """Give the prices of a model at a time; None where the book has none."""
        name = self.canonical(model_id)
        if name is None:
            return None
        for prices in self.models[name]:
            if prices.effective_from <= at and (prices.effective_to is None or at < prices.effective_to):
                return prices
        return None

    def find_requests(self, at: datetime) -> RequestPrices | None:
        """Give the prices of server tools at a time."""
        for prices in self.requests:
            if prices.effective_from <= at and (prices.effective_to is None or at < prices.effective_to):
                return prices
        return None


def label_of(name: str, priced_content: object) -> str:
    """Name an edition by what it says: the same prices have the same label, wherever they were written."""
    digest = hashlib.sha256(msgspec.json.encode(priced_content, order="sorted")).hexdigest()
    return f"{name}-{digest[:HASH_DIGITS]}"
