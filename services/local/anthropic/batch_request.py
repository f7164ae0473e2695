"""Reads the body of POST /v1/messages/batches and the params of its items; answers none of them."""

import re
from collections.abc import Sequence
from mmap import mmap

import msgspec

from services.local.anthropic.errors import ApiFault
from services.local.anthropic.models import Model
from services.local.anthropic.request import MessagesRequest, read_messages_request

BATCH_BYTES_MAX = 256 * 1024**2  # the published limit of the endpoint
BATCH_ITEMS_MAX = 100_000  # likewise

# What the batch endpoint takes no part of: these need a client that waits, or a price that batches lack.
REFUSED_PARAMS = ("speed", "store", "previous_thread_event_id", "thread", "cache_hint", "context_hint")

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class BatchItem(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a batch; its params are looked at when it is its turn."""

    custom_id: str
    params: msgspec.Raw


class _CreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    requests: list[BatchItem]


_decoder = msgspec.json.Decoder(_CreateRequest)
_params_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_batch(body: bytes | mmap) -> Sequence[BatchItem]:
    """Decode a new batch and refuse what makes it no batch; each item's params are checked by itself."""
    try:
        items = _decoder.decode(body).requests
    except msgspec.ValidationError as exc:
        raise ApiFault(400, f"requests: {exc}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ApiFault(400, f"The request body is not valid JSON: {exc}") from exc
    if not items:
        raise ApiFault(400, "requests: List should have at least 1 item after validation, not 0")
    if len(items) > BATCH_ITEMS_MAX:
        raise ApiFault(
            400,
            f"requests: List should have at most {BATCH_ITEMS_MAX} items after validation, not {len(items)}",
        )
    seen: set[str] = set()
    for position, item in enumerate(items):
        if not _CUSTOM_ID.fullmatch(item.custom_id):
            raise ApiFault(
                400, f"requests.{position}.custom_id: String should match pattern '^{_CUSTOM_ID.pattern}$'"
            )
        if item.custom_id in seen:
            raise ApiFault(400, f"requests.{position}.custom_id: Duplicate custom_id '{item.custom_id}'")
        seen.add(item.custom_id)
    return items


def read_params(params: msgspec.Raw, api_version: str) -> tuple[MessagesRequest, Model]:
    """Check one item's params; raises the fault that its result will carry."""
    body = bytes(params)
    try:
        given = _params_decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise ApiFault(400, "params: Input should be an object") from exc
    for name in REFUSED_PARAMS:
        if bytes(given.get(name, b"null")) != b"null":
            raise ApiFault(400, f"{name}: not supported in a batch")
    request, model = read_messages_request(body, api_version)
    if request.stream:
        raise ApiFault(400, "stream: not supported in a batch")
    if request.max_tokens == 0:
        raise ApiFault(400, "max_tokens: Input should be greater than or equal to 1")
    return request, model
