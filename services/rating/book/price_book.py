"""Answers what a model cost at a time, and under which book; holds no file and no rule of billing."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec

from services.rating.book.models import names_of
from services.rating.exact import ONE


class Rates(NamedTuple):
    """USD for one token of each dimension, in the order of `attempts.Tokens`; None where it has no price."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None
    cache_write_5m: Decimal | None
    cache_write_1h: Decimal | None


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """Rates for every token of an attempt whose prompt is longer than that many tokens, and who says so."""

    above_prompt_tokens: int
    rates: Rates
    source: str
    checked: date


class ModelPrices(msgspec.Struct, frozen=True, kw_only=True):
    """What one model costs from one day to another; `fast` is empty where fast mode has no price.

    Tiers rise by `above_prompt_tokens`, the first is for every prompt. Times are a closed start and an
    open end. `discount` multiplies every token's price, and `discount_source` says who granted it.
    """

    model: str
    is_geo_priced: bool
    effective_from: datetime
    effective_to: datetime | None
    standard: tuple[Tier, ...]
    fast: tuple[Tier, ...] = ()
    discount: Decimal = ONE
    discount_source: str = ""


class RequestPrices(msgspec.Struct, frozen=True, kw_only=True):
    """USD for one request of each server tool, from one day to another, and who says so."""

    effective_from: datetime
    effective_to: datetime | None
    web_search: Decimal
    web_fetch: Decimal
    source: str
    checked: date


class PriceBook(msgspec.Struct, frozen=True, kw_only=True):
    """Every price that rating knows, the operator's overrides worked in.

    `book_seq` rises with each edition of the book and of the overrides. `content` is all that decides a
    price, as JSON that is the same wherever the book was written; `content_hash` is its sha256, and
    `label` names the edition by the first digits of that.
    """

    name: str
    book_seq: int
    label: str
    content: str
    content_hash: str
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
