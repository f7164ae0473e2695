-- Who the client was, to the last subagent; what of a usage is our own estimate, what an event beyond 512 KiB left out,
-- and which book priced it; how many exchanges an edge served without a record. And money with eighteen decimals.
--
-- * A new column stands beside its kin, so that `SELECT *` reads well; the sink names its columns, so a sink of an
--   earlier release goes on writing, and its rows have the default.
-- * Indexes are for look-ups by what is rare in a part: a subagent, an account. An app is in every part.
-- * Twelve decimals hold every list price; an operator's discount on top of price, region and batch needs more. What
--   is stored keeps its value: the columns only grow. Sums of Decimal(38,18) are Decimal(38,18), up to 1e20 dollars.
-- * The views are put in the place of the old ones, their new columns last.
ALTER TABLE tollhouse_raw.usage
    ADD COLUMN IF NOT EXISTS client_app           LowCardinality(String) AFTER metadata,
    ADD COLUMN IF NOT EXISTS client_version       LowCardinality(String) AFTER client_app,
    ADD COLUMN IF NOT EXISTS agent_id             String CODEC(ZSTD(1)) AFTER client_version,
    ADD COLUMN IF NOT EXISTS parent_agent_id      String CODEC(ZSTD(1)) AFTER agent_id,
    ADD COLUMN IF NOT EXISTS device_id            String CODEC(ZSTD(1)) AFTER parent_agent_id,
    ADD COLUMN IF NOT EXISTS account_id           String CODEC(ZSTD(1)) AFTER device_id,
    ADD COLUMN IF NOT EXISTS estimated_dimensions Array(LowCardinality(String)) CODEC(ZSTD(1)) AFTER usage_json,
    ADD COLUMN IF NOT EXISTS cut                  Array(LowCardinality(String)) CODEC(ZSTD(1)) AFTER estimated_dimensions,
    ADD COLUMN IF NOT EXISTS book_hash            LowCardinality(String) AFTER book_seq,
    MODIFY COLUMN IF EXISTS cost_usd              Decimal(38, 18) CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS cost_lines            Map(LowCardinality(String), Decimal(38, 18)) CODEC(ZSTD(1)),
    ADD INDEX IF NOT EXISTS agent_bloom   agent_id   TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS account_bloom account_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE tollhouse_raw.requests
    ADD COLUMN IF NOT EXISTS client_app      LowCardinality(String) AFTER metadata,
    ADD COLUMN IF NOT EXISTS client_version  LowCardinality(String) AFTER client_app,
    ADD COLUMN IF NOT EXISTS agent_id        String CODEC(ZSTD(1)) AFTER client_version,
    ADD COLUMN IF NOT EXISTS parent_agent_id String CODEC(ZSTD(1)) AFTER agent_id,
    ADD COLUMN IF NOT EXISTS device_id       String CODEC(ZSTD(1)) AFTER parent_agent_id,
    ADD COLUMN IF NOT EXISTS account_id      String CODEC(ZSTD(1)) AFTER device_id,
    ADD COLUMN IF NOT EXISTS cut             Array(LowCardinality(String)) CODEC(ZSTD(1)) AFTER anthropic_beta;

ALTER TABLE tollhouse_raw.edges
    ADD COLUMN IF NOT EXISTS shed UInt64 CODEC(T64, ZSTD(1)) AFTER spool_bytes;

CREATE OR REPLACE VIEW tollhouse.usage AS
SELECT
    request_id, started_at, edge_id,
    virtual_key_id, team_id, end_user_id, session_id, tags, metadata,
    operation, endpoint, is_stream, model_requested, model_served,
    message_id, upstream_request_id, batch_id, batch_custom_id,
    http_status, outcome, error_type, stop_reason, usage_status,
    input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
    thinking_tokens, web_search_requests, web_fetch_requests,
    service_tier, speed, inference_geo, usage_json,
    cost_status, if(cost_status = 'unpriced', NULL, usage.cost_usd) AS cost_usd, cost_lines, price_book, book_seq,
    ttfb_ms, duration_ms, overhead_us, ingested_at,
    finished_at, exchange_seq, source_id, source_seq, key_alias, cost_lines_json, unpriced_dimensions,
    client_app, client_version, agent_id, parent_agent_id, device_id, account_id, estimated_dimensions, book_hash, cut
FROM tollhouse_raw.usage FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE OR REPLACE VIEW tollhouse.requests AS
SELECT
    request_id, started_at, edge_id, exchange_seq,
    virtual_key_id, key_alias, team_id, end_user_id, session_id, tags, metadata,
    method, operation, endpoint, model_requested, is_stream, request_bytes,
    client_user_agent, anthropic_version, anthropic_beta, ingested_at,
    client_app, client_version, agent_id, parent_agent_id, device_id, account_id, cut
FROM tollhouse_raw.requests FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE OR REPLACE VIEW tollhouse.edges AS
SELECT
    edge_id, at, source_id, process_started_at, exchange_seq, open_exchanges, spool_entries, spool_bytes, ingested_at,
    shed
FROM tollhouse_raw.edges FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;
