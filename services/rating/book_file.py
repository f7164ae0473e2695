"""Reads a price book from YAML and checks all of it; a book with one fault is not used at all."""

from collections.abc import Hashable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import msgspec
import yaml

from services.rating.book_rows import (
    COST_DECIMALS,
    BookFile,
    ModelEntry,
    PriceRow,
    Provenance,
    RequestRow,
    Span,
    TierRow,
    amount_fault,
)
from services.rating.errors import PriceBookFaults
from services.rating.exact import plain
from services.rating.price_book import ModelPrices, PriceBook, RequestPrices, Tier, label_of
from services.runtime import config

BUILT_IN = "prices.yaml"
_PROVENANCE = tuple(field.name for field in msgspec.structs.fields(Provenance))
_PRICING_MEMBERS = ("modifiers", "free", "requests", "models")

Row = TypeVar("Row", bound=msgspec.Struct)
SpanRow = TypeVar("SpanRow", bound=Span)


class _Period(NamedTuple):
    """A time with a closed start and an open end."""

    start: datetime
    end: datetime | None

    def holds(self, at: datetime) -> bool:
        return self.start <= at and (self.end is None or at < self.end)


class _Priced(NamedTuple):
    period: _Period
    tiers: tuple[Tier, ...]


def load(path: str = "") -> PriceBook:
    """Load the price book at `path`, or the built-in one; PriceBookFaults names every fault there is."""
    try:
        text = Path(path).read_bytes() if path else _built_in()
    except OSError as exc:
        raise PriceBookFaults(path, [f"cannot be read: {exc.strerror}"]) from exc
    return parse(text, path or BUILT_IN)


def _built_in() -> bytes:
    return resources.files("services.rating").joinpath(BUILT_IN).read_bytes()


def parse(text: bytes, source: str) -> PriceBook:
    """Read a price book; `source` is what the report of faults calls it."""
    faults: list[str] = []
    document = _document(text, source)
    head = _decoded(BookFile, document, "book", faults)
    models = {name: _model(name, entry, faults) for name, entry in _mapping(document.get("models")).items()}
    entries = {name: entry for name, (entry, _) in models.items() if entry is not None}
    names = _names(entries, faults)
    requests = _requests(document.get("requests"), faults)
    if faults or head is None:
        raise PriceBookFaults(source, faults)
    periods = {name: prices for name, (_, prices) in models.items()}
    tiers = {name: plain(text) for name, text in head.modifiers.service_tier.items()}
    geos = {name: plain(text) for name, text in head.modifiers.inference_geo.items()}
    free_operations = frozenset[str](head.free.operations)
    free_endpoints = frozenset(head.free.endpoints)
    return PriceBook(
        name=head.name,
        book_seq=head.book_seq,
        label=label_of(head.name, _canonical({each: document[each] for each in _PRICING_MEMBERS})),
        names=names,
        models=periods,
        requests=requests,
        service_tiers=tiers,
        inference_geos=geos,
        free_operations=free_operations,
        free_endpoints=free_endpoints,
    )


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses a key standing twice: the first would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        """Build a mapping whose keys all differ."""
        seen: set[object] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else key
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"{name} stands twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _document(text: bytes, source: str) -> Mapping[str, object]:
    try:
        document: object = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as exc:
        raise PriceBookFaults(source, [f"is not YAML: {exc}"]) from exc
    if not isinstance(document, dict):
        raise PriceBookFaults(source, ["must hold a mapping"])
    return cast("Mapping[str, object]", document)


def _mapping(raw: object) -> Mapping[str, object]:
    """Go on below a member that is none: its own fault is reported where the head is decoded."""
    return cast("Mapping[str, object]", raw) if isinstance(raw, dict) else {}


def _sequence(raw: object) -> Sequence[object]:
    return cast("Sequence[object]", raw) if isinstance(raw, list) else ()


def _canonical(raw: object) -> object:
    """Leave only what decides a price, each amount in its one plain form."""
    if isinstance(raw, dict):
        members = cast("Mapping[str, object]", raw)
        return {name: _canonical(each) for name, each in members.items() if name not in _PROVENANCE}
    if isinstance(raw, list):
        return [_canonical(each) for each in cast("list[object]", raw)]
    if isinstance(raw, str) and not amount_fault(raw, COST_DECIMALS):
        return plain(raw)
    return raw


def _decoded(struct: type[Row], raw: object, where: str, faults: list[str]) -> Row | None:
    """Decode one row and collect what is wrong with it, unknown members included."""
    try:
        decoded = config.decode({where: raw}, {where: struct})[where]
    except config.ConfigFaults as exc:
        faults.extend(exc.faults)
        return None
    assert isinstance(decoded, struct)
    return decoded


def _model(name: str, raw: object, faults: list[str]) -> tuple[ModelEntry | None, tuple[ModelPrices, ...]]:
    where = f"models.{name}"
    entry = _decoded(ModelEntry, raw, where, faults)
    members = _mapping(raw)
    standard = _priced(members.get("prices"), f"{where}.prices", faults)
    fast = _priced(members.get("fast"), f"{where}.fast", faults)
    is_geo_priced = entry is not None and entry.is_geo_priced
    return entry, tuple(_timeline(name, is_geo_priced, standard, fast))


def _priced(raw: object, where: str, faults: list[str]) -> list[_Priced]:
    rows: list[PriceRow] = []
    tiers: dict[int, tuple[Tier, ...]] = {}
    for place, each in enumerate(_sequence(raw)):
        row = _decoded(PriceRow, each, f"{where}[{place}]", faults)
        if row is not None:
            rows.append(row)
            tiers[id(row)] = _tiers(row, f"{where}[{place}]", faults)
    return [_Priced(period, tiers[id(row)]) for period, row in _periods(rows, where, faults)]


def _tiers(row: PriceRow, where: str, faults: list[str]) -> tuple[Tier, ...]:
    tiers = [Tier(above_prompt_tokens=0, rates=row.prices().rates())]
    for place, each in enumerate(row.above):
        above = _decoded(TierRow, each, f"{where}.above[{place}]", faults)
        if above is None:
            continue
        if above.prompt_tokens <= tiers[-1].above_prompt_tokens:
            faults.append(f"{where}.above[{place}].prompt_tokens: must rise from tier to tier")
        tiers.append(Tier(above_prompt_tokens=above.prompt_tokens, rates=above.prices().rates()))
    return tuple(tiers)


def _periods(rows: Sequence[SpanRow], where: str, faults: list[str]) -> list[tuple[_Period, SpanRow]]:
    """Order rows by time; one that names no end lasts until the next begins."""
    ordered = sorted(rows, key=lambda row: row.effective_from)
    periods: list[tuple[_Period, SpanRow]] = []
    for row, following in pairwise([*ordered, None]):
        assert row is not None
        end = row.effective_to
        if following is not None:
            if end is None and row.effective_from < following.effective_from:
                end = following.effective_from
            elif end is None or end > following.effective_from:
                faults.append(f"{where}: two rows overlap on {following.effective_from}")
        periods.append((_Period(_midnight(row.effective_from), end and _midnight(end)), row))
    return periods


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _timeline(
    name: str, is_geo_priced: bool, standard: Sequence[_Priced], fast: Sequence[_Priced]
) -> list[ModelPrices]:
    """Cut the time that has standard prices wherever those or fast mode's change."""
    edges = sorted(
        {edge for period, _ in (*standard, *fast) for edge in (period.start, period.end) if edge is not None}
    )
    timeline: list[ModelPrices] = []
    for start, end in pairwise([*edges, None]):
        assert start is not None
        tiers = _tiers_at(standard, start)
        if not tiers:
            continue
        timeline.append(
            ModelPrices(
                model=name,
                is_geo_priced=is_geo_priced,
                effective_from=start,
                effective_to=end,
                standard=tiers,
                fast=_tiers_at(fast, start),
            )
        )
    return timeline


def _tiers_at(priced: Sequence[_Priced], at: datetime) -> tuple[Tier, ...]:
    return next((tiers for period, tiers in priced if period.holds(at)), ())


def _requests(raw: object, faults: list[str]) -> tuple[RequestPrices, ...]:
    rows = [
        row
        for place, each in enumerate(_sequence(raw))
        if (row := _decoded(RequestRow, each, f"requests[{place}]", faults)) is not None
    ]
    requests: list[RequestPrices] = []
    for period, row in _periods(rows, "requests", faults):
        search, fetch = row.per_request()
        requests.append(
            RequestPrices(
                effective_from=period.start, effective_to=period.end, web_search=search, web_fetch=fetch
            )
        )
    return tuple(requests)


def _names(entries: Mapping[str, ModelEntry], faults: list[str]) -> dict[str, str]:
    """Map every name to its model; a name may stand for one model only."""
    names = {name: name for name in entries}
    for model, entry in entries.items():
        for alias in entry.aliases:
            if alias in names:
                faults.append(f"models.{model}.aliases: {alias} already names {names[alias]}")
            names[alias] = model
    return names
