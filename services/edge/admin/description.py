"""Says in OpenAPI what the routes take and refuse, where Litestar by itself would say something else."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, TypeAlias, TypeVar

from litestar.enums import RequestEncodingType
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Operation, RequestBody, Schema
from litestar.params import BodyKwarg, ParameterKwarg

from services.edge.admin.errors import ErrorAnswer

Body = TypeVar("Body")

_CLOSED = {"additional_properties": False}

Closed: TypeAlias = Annotated[Body, ParameterKwarg(schema_extra=_CLOSED)]
"""An object that is refused with a field that it does not have."""

ClosedBody: TypeAlias = Annotated[Body, BodyKwarg(media_type=RequestEncodingType.JSON, schema_extra=_CLOSED)]
"""A body of JSON that is refused with a field that it does not have."""

Usd: TypeAlias = Annotated[Decimal, ParameterKwarg(schema_extra={"type": ["number", "string"]})]
"""USD as operators may write it; a text keeps every digit, a number those of a double."""

# What can be answered by every route; `refusals` adds the rest.
_EVERYWHERE = (400, 401, 403, 503)
_MEANINGS: Mapping[int, str] = {
    400: "The request has a fault, which the message names.",
    401: "No key was shown, or one that is not in force.",
    403: "The key that was shown may not do this.",
    404: "There is no such record.",
    413: "The body is too large.",
    503: "The registry cannot be read or written now; whether a change was made is not known.",
}


@dataclass
class BodyMayBeAbsent(Operation):
    """An operation with a body that may be left out, which is not the same as null."""

    def __post_init__(self) -> None:
        assert isinstance(self.request_body, RequestBody)
        self.request_body.required = False
        for each in self.request_body.content.values():
            assert isinstance(each.schema, Schema) and each.schema.one_of is not None
            each.schema, _ = each.schema.one_of


def refusals(*more: int) -> dict[int, ResponseSpec]:
    """Describe the refusals that every route has, and more of them; all have one shape."""
    return {
        status: ResponseSpec(ErrorAnswer, generate_examples=False, description=_MEANINGS[status])
        for status in sorted((*_EVERYWHERE, *more))
    }
