"""Describes what an operator's overrides may say, row by row, and what is wrong with a row by itself."""

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from services.rating.book.rows import (
    EDITIONS_PER_BOOK,
    FACTOR_DECIMALS_MAX,
    Provenance,
    Span,
    amount_fault,
    endpoint_faults,
    multiplier_faults,
)


class DiscountRow(Span, frozen=True, kw_only=True):
    """A factor on every token price of the models whose names match one of the patterns."""

    models: tuple[str, ...]
    factor: str

    def faults(self) -> Iterable[str]:
        """Say what is wrong with the discount."""
        yield from super().faults()
        if not self.models:
            yield "models: must not be empty"
        fault = amount_fault(self.factor, FACTOR_DECIMALS_MAX)
        if fault:
            yield f"factor: {fault}"
        elif not 0 < Decimal(self.factor) < 1:
            yield 'factor: must lie between 0 and 1: "0.85" takes 15 % off'


class ModelOverride(msgspec.Struct, frozen=True, kw_only=True):
    """What is different about one model, or all about one that the book does not have."""

    prices: tuple[object, ...] = ()
    fast: tuple[object, ...] = ()
    aliases: tuple[str, ...] = ()
    is_geo_priced: bool | None = None

    def faults(self) -> Iterable[str]:
        """Say whether there is anything."""
        if not (self.prices or self.fast or self.aliases or self.is_geo_priced is not None):
            yield "prices: is required where nothing else is said"


class ModifierOverrides(Provenance, frozen=True, kw_only=True):
    """Multipliers beside those of the book, or in their place."""

    service_tier: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    inference_geo: dict[str, str] = msgspec.field(default_factory=dict[str, str])

    def faults(self) -> Iterable[str]:
        """Say which multipliers are none."""
        yield from super().faults()
        yield from multiplier_faults("service_tier", self.service_tier)
        yield from multiplier_faults("inference_geo", self.inference_geo)


class FreeOverrides(Provenance, frozen=True, kw_only=True):
    """Endpoints that cost nothing beside those of the book, each with the paths below it."""

    endpoints: tuple[str, ...]

    def faults(self) -> Iterable[str]:
        """Say which entries are no endpoints."""
        yield from super().faults()
        yield from endpoint_faults(self.endpoints)


class OverridesFile(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file; `edition` rises by one with every change that is put to use."""

    edition: int
    models: dict[str, object] = {}
    discounts: tuple[object, ...] = ()
    requests: tuple[object, ...] = ()
    modifiers: object = None
    free: object = None

    def faults(self) -> Iterable[str]:
        """Say what is wrong with the head of the file."""
        if not 1 <= self.edition < EDITIONS_PER_BOOK:
            yield f"edition: must lie between 1 and {EDITIONS_PER_BOOK - 1}"
