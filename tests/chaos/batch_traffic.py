"""Decides from a seed what clients do with batches, and what items must be booked under; holds no I/O."""

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from schemas.exchange import Operation
from schemas.ids import VirtualKeyId
from tests.chaos.traffic import MODELS, PROMPT, TAGS, UNKNOWN_MODEL, Receipt

Action = Literal["create", "retrieve", "list", "cancel", "results"]

PATH = "/v1/messages/batches"
WEIGHTS: dict[Action, float] = {"create": 0.3, "retrieve": 0.3, "list": 0.12, "cancel": 0.1, "results": 0.18}
FEW_ITEMS, MANY_ITEMS = (10, 60), (100, 300)
MANY_SHARE = 0.2
# One of so many is booked in several portions, and long enough to be met in the middle.
LONG_ITEMS, LONG_ONE_OF = (1_100, 1_800), 10
SECONDS_MAX, CANCEL_SECONDS_MAX = 4, 2  # until Anthropic has ended a batch
# Calls on a batch mostly follow its creation.
LATELY = 4
# The prefixes of a custom_id by which the simulated API ends an item otherwise.
FATES = ("errored-", "canceled-", "expired-")
FATE_SHARE, UNFIT_SHARE = 0.08, 0.01


class Key(NamedTuple):
    """A virtual key of the gateway's; its batches are its team's, where it has one."""

    secret: str
    virtual_key_id: VirtualKeyId
    alias: str = ""
    team_id: str = ""

    @property
    def holder(self) -> str:
        return self.team_id or self.virtual_key_id


class Booked(NamedTuple):
    """What an item is booked under; the fields are columns of tollhouse.usage."""

    virtual_key_id: str
    key_alias: str = ""
    team_id: str = ""
    end_user_id: str = ""
    session_id: str = ""
    tags: Sequence[str] = ()
    metadata: Mapping[str, str] = {}


class Item(NamedTuple):
    """One request of a batch; `metadata` is its litellm_metadata, `user_id` that of Anthropic's metadata."""

    custom_id: str
    model: str = MODELS[0]
    prompt: str = PROMPT
    cache_ttl: str = ""
    metadata: Mapping[str, object] = {}
    user_id: str = ""
    is_unfit: bool = False  # asks for what no batch takes, so that it ends errored

    def request(self) -> dict[str, object]:
        text: dict[str, object] = {"type": "text", "text": self.prompt}
        if self.cache_ttl:
            text["cache_control"] = {"type": "ephemeral", "ttl": self.cache_ttl}
        content = [text, {"type": "text", "text": "How much?"}]
        params: dict[str, object] = {
            "model": self.model,
            "max_tokens": 500,
            "messages": [{"role": "user", "content": content}],
        }
        if self.metadata:
            params["litellm_metadata"] = self.metadata
        if self.user_id:
            params["metadata"] = {"user_id": self.user_id}
        if self.is_unfit:
            params["stream"] = True
        return {"custom_id": self.custom_id, "params": params}


class BatchCall(NamedTuple):
    """One call on batches; `name` and `items` are those of a batch that it creates."""

    key: Key
    action: Action = "create"
    batch_id: str = ""
    tag: str = TAGS[0]
    end_user: str = "ada"
    name: str = ""
    items: Sequence[Item] = ()
    simulate: Sequence[str] = ()

    @property
    def method(self) -> str:
        return "POST" if self.action in ("create", "cancel") else "GET"

    @property
    def path(self) -> str:
        match self.action:
            case "create":
                return PATH
            case "list":
                return f"{PATH}?limit=20"
            case "retrieve":
                return f"{PATH}/{self.batch_id}"
            case _:
                return f"{PATH}/{self.batch_id}/{self.action}"

    @property
    def operation(self) -> Operation:
        return "batches"

    @property
    def virtual_key_id(self) -> VirtualKeyId:
        return self.key.virtual_key_id

    @property
    def model(self) -> str:
        return ""

    @property
    def is_stream(self) -> bool:
        return False

    @property
    def hangs_up_after(self) -> int | None:
        return None

    def headers(self) -> dict[str, str]:
        headers = {
            "x-api-key": self.key.secret,
            "anthropic-version": "2023-06-01",
            "x-litellm-tags": f"chaos,{self.tag}",
            "x-litellm-end-user-id": self.end_user,
        }
        return headers | ({"x-simulate": ";".join(self.simulate)} if self.simulate else {})

    def body(self) -> dict[str, object] | None:
        if self.action != "create":
            return None
        said = {"session_id": f"session-{self.name}", "job": self.name}
        return {"requests": [item.request() for item in self.items], "litellm_metadata": said}

    def booked(self, item: Item) -> Booked:
        """Say what an item must be booked under: what it says itself lies over what its batch says."""
        own = item.metadata
        free = {name: str(text) for name, text in own.items() if name not in ("user", "session_id", "tags")}
        return Booked(
            virtual_key_id=self.key.virtual_key_id,
            key_alias=self.key.alias,
            team_id=self.key.team_id,
            end_user_id=str(own.get("user") or item.user_id or self.end_user),
            session_id=str(own.get("session_id") or f"session-{self.name}"),
            tags=["chaos", self.tag, *(each for each in own.get("tags", ()) if each != self.tag)],
            metadata={"job": self.name} | free,
        )


class BatchTraffic:
    """Draws calls on batches; `receipts` is the clients' growing list, whose batches are called on."""

    def __init__(self, keys: Sequence[Key], receipts: Sequence[Receipt]) -> None:
        self._keys = keys
        self._receipts = receipts
        self._numbers = itertools.count(1)

    def next_call(self, dice: random.Random) -> BatchCall:
        """Draw one call: a creation, or one on a batch that somebody of the same team has made."""
        key = dice.choice(self._keys)
        made = [
            batch_id_of(each)
            for each in self._receipts
            if is_creation(each) and each.ending == "complete" and each.ask.key.holder == key.holder
        ]
        action = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0] if made else "create"
        call = BatchCall(key, action, tag=dice.choice(TAGS), end_user=f"user-{dice.randrange(9)}")
        if action == "create":
            return _with_items(call, next(self._numbers), dice)
        return call if action == "list" else call._replace(batch_id=dice.choice(made[-LATELY:]))


def is_creation(receipt: Receipt) -> bool:
    """Say whether it is of a call that creates a batch."""
    return isinstance(receipt.ask, BatchCall) and receipt.ask.action == "create"


def batch_id_of(receipt: Receipt) -> str:
    """Read which batch a client was told that it has made."""
    return msgspec.json.decode(receipt.answer)["id"]


def _with_items(call: BatchCall, batch_number: int, dice: random.Random) -> BatchCall:
    name = f"b{batch_number}"
    least, most = MANY_ITEMS if dice.random() < MANY_SHARE else FEW_ITEMS
    if batch_number % LONG_ONE_OF == 0:
        least, most = LONG_ITEMS
    models = MODELS if dice.random() < 0.5 else (dice.choice(MODELS),)
    simulate = [
        f"output-tokens={dice.randint(1, 120)}",
        f"batch-seconds={dice.randint(0, SECONDS_MAX)}",
        f"cancel-seconds={dice.randint(0, CANCEL_SECONDS_MAX)}",
    ]
    if dice.random() < 0.08:
        simulate.append(f"model-served={UNKNOWN_MODEL}")
    items = [_item(f"{name}-{number}", models, dice) for number in range(dice.randint(least, most))]
    return call._replace(name=name, items=tuple(items), simulate=tuple(simulate))


def _item(name: str, models: Sequence[str], dice: random.Random) -> Item:
    fate = dice.choice(FATES) if dice.random() < FATE_SHARE else ""
    metadata: dict[str, object] = {}
    if dice.random() < 0.4:
        metadata = {"user": f"owner-{dice.randrange(9)}", "tags": ["own", dice.choice(TAGS)], "part": name}
        if dice.random() < 0.5:
            metadata["session_id"] = f"session-{name}"
    return Item(
        custom_id=f"{fate}{name}",
        model=dice.choice(models),
        prompt=f"{dice.randrange(6)} " + PROMPT * dice.randint(1, 10),
        cache_ttl=dice.choice(("", "", "5m", "1h")),
        metadata=metadata,
        user_id=f"person-{dice.randrange(9)}" if dice.random() < 0.2 else "",
        is_unfit=dice.random() < UNFIT_SHARE,
    )
