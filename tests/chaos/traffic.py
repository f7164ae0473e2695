"""Decides what simulated clients ask for, from a seed; holds no I/O and no answer."""

import random
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from schemas.exchange import Operation
from schemas.ids import VirtualKeyId
from services.edge.identity import own_key_id

MODELS = ("claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-4-5")
UNKNOWN_MODEL = "claude-unheard-of-9"  # served, but in no price book
KEYS = tuple(f"sk-ant-chaos-{number:024d}" for number in range(4))
TAGS = ("nightly", "search", "review", "draft", "eval")
CODINGS = ("gzip", "deflate", "br")
SHARED_PROMPTS = 6  # few, so that the cache is read as well as written
PROMPT = "The toll of a bridge is counted at its gate. "

Ending = Literal["complete", "error", "error_event", "cut", "hung_up", "turned_away"]
"""How a request ended for its client: `complete` is an answer from its first byte to its last; `error` is
one of 400 and more, in full; `error_event` a stream that says it failed; `turned_away` no answer at all."""


class Asked(Protocol):
    """What every request has, whatever it is for: how it is sent, and how it must be booked."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def tag(self) -> str: ...
    @property
    def end_user(self) -> str: ...
    @property
    def is_stream(self) -> bool: ...
    @property
    def hangs_up_after(self) -> int | None: ...
    @property
    def virtual_key_id(self) -> VirtualKeyId: ...
    @property
    def operation(self) -> Operation: ...
    def headers(self) -> dict[str, str]: ...
    def body(self) -> dict[str, object] | None: ...


class Ask(NamedTuple):
    """One request for a message, or for its tokens to be counted, as a client makes it."""

    key: str = KEYS[0]
    tag: str = TAGS[0]
    end_user: str = "ada"
    model: str = MODELS[0]
    is_stream: bool = False
    is_count: bool = False
    prompt: str = PROMPT
    cache_ttl: str = ""
    inference_geo: str = ""
    simulate: tuple[str, ...] = ()
    hangs_up_after: int | None = None  # chunks of the answer; None stays to the end

    @property
    def method(self) -> str:
        return "POST"

    @property
    def path(self) -> str:
        return "/v1/messages/count_tokens" if self.is_count else "/v1/messages"

    @property
    def operation(self) -> Operation:
        return "count_tokens" if self.is_count else "messages"

    @property
    def virtual_key_id(self) -> VirtualKeyId:
        return own_key_id(self.key, "")

    def headers(self) -> dict[str, str]:
        headers = {
            "x-api-key": self.key,
            "anthropic-version": "2023-06-01",
            "x-litellm-tags": f"chaos,{self.tag}",
            "x-litellm-end-user-id": self.end_user,
        }
        return headers | ({"x-simulate": ";".join(self.simulate)} if self.simulate else {})

    def body(self) -> dict[str, object]:
        text: dict[str, object] = {"type": "text", "text": self.prompt}
        if self.cache_ttl:
            text["cache_control"] = {"type": "ephemeral", "ttl": self.cache_ttl}
        body: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": "user", "content": [text, {"type": "text", "text": "How much?"}]}],
        }
        if self.is_count:
            return body
        body |= {"max_tokens": 4_000, "stream": self.is_stream}
        if self.inference_geo:
            body["inference_geo"] = self.inference_geo
        return body


class Receipt(NamedTuple):
    """What a client has of one exchange, by its own account."""

    ask: Asked
    sent_at: datetime
    ending: Ending
    edge: str = ""
    request_id: str = ""
    status: int = 0
    is_upstreams: bool = False  # the answer carries Anthropic's own request id
    message_id: str = ""
    model_served: str = ""
    usage: dict | None = None
    error: str = ""
    answer: bytes = b""  # of a call on batches, where it is complete


def next_ask(dice: random.Random) -> Ask:
    """Draw one request: most are ordinary, some are what goes wrong every day."""
    simulate = [f"output-tokens={dice.randint(1, 120)}"]
    is_stream, is_count = dice.random() < 0.55, dice.random() < 0.08
    if is_stream and dice.random() < 0.4:  # long enough to be open when something breaks
        simulate.append(f"chunk-delay-ms={dice.randint(5, 80)}")
    elif dice.random() < 0.3:
        simulate.append(f"latency-ms={dice.randint(20, 700)}")
    chance = dice.random()
    if chance < 0.05:
        simulate.append(f"status={dice.choice((429, 500, 529))}")
    elif chance < 0.07 and is_stream:
        simulate.append(f"cut-after-events={dice.randint(0, 6)}")
    elif chance < 0.09 and is_stream:
        simulate.append(f"error-event-after={dice.randint(1, 6)}")
    elif chance < 0.12:
        simulate.append(f"model-served={UNKNOWN_MODEL}")
    if dice.random() < 0.2:
        simulate.append(dice.choice(CODINGS))
    if dice.random() < 0.1:
        simulate.append("thinking-tokens=40")
    return Ask(
        key=dice.choice(KEYS),
        tag=dice.choice(TAGS),
        end_user=f"user-{dice.randrange(9)}",
        model=dice.choice(MODELS),
        is_stream=is_stream and not is_count,
        is_count=is_count,
        prompt=f"{dice.randrange(SHARED_PROMPTS)} " + PROMPT * dice.randint(1, 30),
        cache_ttl=dice.choice(("", "", "5m", "1h")) if not is_count else "",
        inference_geo=dice.choice(("", "", "", "us")),
        simulate=() if is_count else tuple(simulate),
        hangs_up_after=dice.randint(0, 8) if is_stream and not is_count and dice.random() < 0.06 else None,
    )
