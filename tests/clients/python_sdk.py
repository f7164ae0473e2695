"""Acts the scenarios with the Python SDK, 1.x or 2.x; writes what it saw as one JSON object, judges nothing.

python python_sdk.py BASE_URL
"""

import json
import sys

import anthropic

MODEL = "claude-haiku-5-5"
ASK = {"model": MODEL, "max_tokens": 200, "messages": [{"role": "user", "content": "Tell me of tolls."}]}
WEATHER = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
RETRIES_MAX = 2


def scripted(spec):
    return {"extra_headers": {"x-simulate": spec}}


def seen(message):
    return {
        "id": message.id[:6],
        "model": message.model,
        "text": "".join(block.text for block in message.content if block.type == "text"),
        "stop_reason": message.stop_reason,
        "usage": [message.usage.input_tokens, message.usage.output_tokens],
    }


def failed(act):
    try:
        act()
    except anthropic.APIStatusError as error:
        headers = error.response.headers
        return {
            "status": error.status_code,
            "type": error.body["error"]["type"],
            "request_id": error.body["request_id"] == headers.get("request-id"),
            "should_retry": headers.get("x-should-retry"),
        }
    return None


def message(client):
    answer = client.messages.create(**ASK)
    return {**seen(answer), "request_id": answer._request_id[:4]}


def stream(client):
    with client.messages.create(**ASK, stream=True) as events:
        return [event.type for event in events]


def stream_helper(client):
    with client.messages.stream(**ASK) as events:
        spoken = "".join(events.text_stream)
        final = events.get_final_message()
    return {**seen(final), "spoken": spoken}


def tool(client):
    answer = client.messages.create(**ASK, tools=[WEATHER], tool_choice={"type": "any"})
    return [answer.stop_reason, answer.content[-1].name, answer.content[-1].input]


def gzipped(client):
    with client.messages.stream(**ASK, **scripted("gzip;chunk-bytes=11")) as events:
        final = events.get_final_message()
    return [seen(final), seen(client.messages.create(**ASK, **scripted("gzip")))]


def count_tokens(client):
    return client.messages.count_tokens(model=MODEL, messages=ASK["messages"]).input_tokens


def models(client):
    listed = [model.id for model in client.models.list(limit=7)]
    return [len(listed), listed[0], client.models.retrieve("claude-haiku-4-5").id]


def _requests(*custom_ids):
    return [{"custom_id": custom_id, "params": ASK} for custom_id in custom_ids]


def batch(client):
    batches = client.messages.batches
    created = batches.create(requests=_requests("one", "errored-two", "expired-three"))
    ended = batches.retrieve(created.id)
    results = {}
    for line in batches.results(created.id):
        answer = getattr(line.result, "message", None)
        results[line.custom_id] = [line.result.type, answer and seen(answer)["usage"]]
    return {
        "statuses": [created.processing_status, ended.processing_status],
        "succeeded": ended.request_counts.succeeded,
        "is_here": ended.results_url.startswith(str(client.base_url).rstrip("/")),
        "results": results,
        "listed": [each.id == created.id for each in batches.list(limit=1).data],
    }


def batch_canceled(client):
    batches = client.messages.batches
    created = batches.create(requests=_requests("one"), **scripted("batch-seconds=600"))
    early = failed(lambda: batches.delete(created.id))
    canceling = batches.cancel(created.id)
    ended = batches.retrieve(created.id)
    deleted = batches.delete(created.id)
    return {
        "early": early,
        "statuses": [canceling.processing_status, ended.processing_status],
        "canceled": ended.request_counts.canceled,
        "deleted": deleted.type,
        "gone": failed(lambda: batches.retrieve(created.id)),
    }


def files(client):
    content = bytes(range(256)) * 400
    file = client.files.upload(file=("a b.bin", content, "application/octet-stream"))
    return {
        "uploaded": [file.filename, file.size_bytes, file.mime_type],
        "same": client.files.download(file.id).read() == content,
        "metadata": client.files.retrieve_metadata(file.id).filename,
        "listed": [each.id == file.id for each in client.files.list(limit=1).data],
        "deleted": client.files.delete(file.id).type,
        "gone": failed(lambda: client.files.retrieve_metadata(file.id)),
    }


def retried(spec):
    def act(client):
        return seen(client.with_options(max_retries=RETRIES_MAX).messages.create(**ASK, **scripted(spec)))

    return act


def given_up(client):
    patient = client.with_options(max_retries=RETRIES_MAX)
    return failed(lambda: patient.messages.create(**ASK, **scripted("status=529;retry-after=0")))


def not_retried(client):
    patient = client.with_options(max_retries=RETRIES_MAX)
    return failed(lambda: patient.messages.create(**ASK, **scripted("status=402")))


def errors(client):
    return {
        status: failed(lambda status=status: client.messages.create(**ASK, **scripted(f"status={status}")))
        for status in (400, 401, 403, 404, 409, 413, 429, 500, 503, 504, 529)
    }


def left(client):
    read = []
    with client.messages.create(**ASK, stream=True, **scripted("chunk-delay-ms=20")) as events:
        for event in events:
            read.append(event.type)
            if len(read) == 3:
                break
    return read


def error_within(client):
    def act():
        with client.messages.stream(**ASK, **scripted("error-event-after=4")) as events:
            events.until_done()

    return failed(act)["type"]


def cut_within(client):
    def act():
        with client.messages.stream(**ASK, **scripted("cut-after-events=4")) as events:
            events.until_done()

    return failed(act)["type"]


SCENARIOS = {
    "message": message,
    "stream": stream,
    "stream_helper": stream_helper,
    "tool": tool,
    "gzipped": gzipped,
    "count_tokens": count_tokens,
    "models": models,
    "batch": batch,
    "batch_canceled": batch_canceled,
    "files": files,
    "retried_429": retried("status=429;times=2;retry-after=0"),
    "retried_529": retried("status=529;times=1;retry-after=0"),
    "retried_cut": retried("cut-before-answer;times=1"),
    "given_up": given_up,
    "not_retried": not_retried,
    "errors": errors,
    "left": left,
    "error_within": error_within,
    "cut_within": cut_within,
}


def main():
    report = {"version": anthropic.__version__}
    for name, act in SCENARIOS.items():
        with anthropic.Anthropic(
            base_url=sys.argv[1],
            api_key="sk-caller",
            max_retries=0,
            default_headers={"x-litellm-tags": name},
        ) as client:
            report[name] = act(client)
    json.dump(report, sys.stdout)


main()
