// Acts the scenarios with the TypeScript SDK; writes what it saw as one JSON object, judges nothing.
//
//     node typescript_sdk.mjs BASE_URL

import Anthropic, { APIError, toFile } from "@anthropic-ai/sdk";
import { File } from "node:buffer";
import { readFileSync } from "node:fs";

globalThis.File ??= File; // Node 18 has it, but not as a global

const MODEL = "claude-haiku-5-5";
const ASK = { model: MODEL, max_tokens: 200, messages: [{ role: "user", content: "Tell me of tolls." }] };
const WEATHER = {
  name: "weather",
  input_schema: { type: "object", properties: { place: { type: "string" } }, required: ["place"] },
};
const RETRIES_MAX = 2;

const scripted = (spec, options = {}) => ({ headers: { "x-simulate": spec }, ...options });

const seen = (message) => ({
  id: message.id.slice(0, 6),
  model: message.model,
  text: message.content.filter((block) => block.type === "text").map((block) => block.text).join(""),
  stop_reason: message.stop_reason,
  usage: [message.usage.input_tokens, message.usage.output_tokens],
});

async function failed(act) {
  try {
    await act();
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    return {
      status: error.status ?? 200,
      type: error.error.error.type,
      request_id: error.error.request_id === (error.headers?.get("request-id") ?? null),
      should_retry: error.headers?.get("x-should-retry") ?? null,
    };
  }
  return null;
}

const requests = (...customIds) => customIds.map((custom_id) => ({ custom_id, params: ASK }));

const retried = (spec) => async (client) =>
  seen(await client.messages.create(ASK, scripted(spec, { maxRetries: RETRIES_MAX })));

const SCENARIOS = {
  message: async (client) => {
    const answer = await client.messages.create(ASK);
    return { ...seen(answer), request_id: answer._request_id.slice(0, 4) };
  },
  stream: async (client) => {
    const types = [];
    for await (const event of await client.messages.create({ ...ASK, stream: true })) types.push(event.type);
    return types;
  },
  stream_helper: async (client) => {
    let spoken = "";
    const events = client.messages.stream(ASK).on("text", (text) => (spoken += text));
    return { ...seen(await events.finalMessage()), spoken };
  },
  tool: async (client) => {
    const answer = await client.messages.create({ ...ASK, tools: [WEATHER], tool_choice: { type: "any" } });
    const call = answer.content.at(-1);
    return [answer.stop_reason, call.name, call.input];
  },
  gzipped: async (client) => {
    const final = await client.messages.stream(ASK, scripted("gzip;chunk-bytes=11")).finalMessage();
    return [seen(final), seen(await client.messages.create(ASK, scripted("gzip")))];
  },
  count_tokens: async (client) =>
    (await client.messages.countTokens({ model: MODEL, messages: ASK.messages })).input_tokens,
  models: async (client) => {
    const listed = [];
    for await (const model of client.models.list({ limit: 7 })) listed.push(model.id);
    return [listed.length, listed[0], (await client.models.retrieve("claude-haiku-4-5")).id];
  },
  batch: async (client) => {
    const batches = client.messages.batches;
    const created = await batches.create({ requests: requests("one", "errored-two", "expired-three") });
    const ended = await batches.retrieve(created.id);
    const results = {};
    for await (const line of await batches.results(created.id)) {
      const answer = line.result.message;
      results[line.custom_id] = [line.result.type, answer ? seen(answer).usage : null];
    }
    return {
      statuses: [created.processing_status, ended.processing_status],
      succeeded: ended.request_counts.succeeded,
      is_here: ended.results_url.startsWith(client.baseURL),
      results,
      listed: (await batches.list({ limit: 1 })).data.map((each) => each.id === created.id),
    };
  },
  batch_canceled: async (client) => {
    const batches = client.messages.batches;
    const created = await batches.create({ requests: requests("one") }, scripted("batch-seconds=600"));
    const early = await failed(() => batches.delete(created.id));
    const canceling = await batches.cancel(created.id);
    const ended = await batches.retrieve(created.id);
    const deleted = await batches.delete(created.id);
    return {
      early,
      statuses: [canceling.processing_status, ended.processing_status],
      canceled: ended.request_counts.canceled,
      deleted: deleted.type,
      gone: await failed(() => batches.retrieve(created.id)),
    };
  },
  files: async (client) => {
    const content = Buffer.concat(Array(400).fill(Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))));
    const file = await client.files.upload({
      file: await toFile(content, "a b.bin", { type: "application/octet-stream" }),
    });
    const back = Buffer.from(await (await client.files.download(file.id)).arrayBuffer());
    return {
      uploaded: [file.filename, file.size_bytes, file.mime_type],
      same: back.equals(content),
      metadata: (await client.files.retrieveMetadata(file.id)).filename,
      listed: (await client.files.list({ limit: 1 })).data.map((each) => each.id === file.id),
      deleted: (await client.files.delete(file.id)).type,
      gone: await failed(() => client.files.retrieveMetadata(file.id)),
    };
  },
  retried_429: retried("status=429;times=2;retry-after=0"),
  retried_529: retried("status=529;times=1;retry-after=0"),
  retried_cut: retried("cut-before-answer;times=1"),
  given_up: (client) =>
    failed(() => client.messages.create(ASK, scripted("status=529;retry-after=0", { maxRetries: RETRIES_MAX }))),
  not_retried: (client) =>
    failed(() => client.messages.create(ASK, scripted("status=402", { maxRetries: RETRIES_MAX }))),
  errors: async (client) => {
    const told = {};
    for (const status of [400, 401, 403, 404, 409, 413, 429, 500, 503, 504, 529])
      told[status] = await failed(() => client.messages.create(ASK, scripted(`status=${status}`)));
    return told;
  },
  left: async (client) => {
    const read = [];
    const events = await client.messages.create({ ...ASK, stream: true }, scripted("chunk-delay-ms=20"));
    for await (const event of events) {
      read.push(event.type);
      if (read.length === 3) break;
    }
    return read;
  },
  error_within: async (client) =>
    (await failed(() => client.messages.stream(ASK, scripted("error-event-after=4")).done())).type,
  cut_within: async (client) =>
    (await failed(() => client.messages.stream(ASK, scripted("cut-after-events=4")).done())).type,
};

const manifest = new URL("./node_modules/@anthropic-ai/sdk/package.json", import.meta.url);
const report = { version: JSON.parse(readFileSync(manifest)).version };
for (const [name, act] of Object.entries(SCENARIOS)) {
  const client = new Anthropic({
    baseURL: process.argv[2],
    apiKey: "sk-caller",
    maxRetries: 0,
    defaultHeaders: { "x-litellm-tags": name },
  });
  report[name] = await act(client);
}
process.stdout.write(JSON.stringify(report));
