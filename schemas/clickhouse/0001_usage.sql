-- The ledger of usage and cost: one row for each exchange or batch item, priced at one price book.
--
-- Why it looks like this:
-- * A row is whole: pricing anew inserts the row again with a higher row_version, nothing is read to be changed.
--   row_version comes from the producer (a real ending above an orphaned one, then the later price book).
-- * Partition and sort key are functions of started_at and request_id alone, which no later version of a row can
--   change; anything else in them would leave two versions standing side by side for ever.
-- * UUIDs are sorted by their second half here: request_id is looked up through its bloom filter, never by range.
-- * Money of a row is Decimal(18,12), twelve places because a cached token can cost 1.25e-8 dollars. Sums of it
--   are Decimal(38,12) by ClickHouse's own rule.
-- * Names such as outcome and operation are LowCardinality(String), not Enum: schemas only grow, and a word that is
--   new must not stop an old table.
-- * non_replicated_deduplication_window makes an insert that is sent again with its token a no-op.
-- * There is no TTL: these rows are the books. `ALTER TABLE tollhouse_raw.usage MODIFY TTL ...` is the operator's.
CREATE DATABASE IF NOT EXISTS tollhouse_raw;

CREATE DATABASE IF NOT EXISTS tollhouse;

CREATE TABLE IF NOT EXISTS tollhouse_raw.usage
(
    -- identity: never changes between versions of a row
    request_id            UUID,
    started_at            DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    row_version           UInt64,

    -- where it was seen, and how it came here
    finished_at           DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    edge_id               LowCardinality(String),
    exchange_seq          UInt64 CODEC(Delta, ZSTD(1)),
    source_id             LowCardinality(String),
    source_seq            UInt64 CODEC(Delta, ZSTD(1)),

    -- whom it is booked to
    virtual_key_id        LowCardinality(String),
    key_alias             LowCardinality(String),
    team_id               LowCardinality(String),
    end_user_id           String CODEC(ZSTD(1)),
    session_id            String CODEC(ZSTD(1)),
    tags                  Array(LowCardinality(String)) CODEC(ZSTD(1)),
    metadata              Map(LowCardinality(String), String) CODEC(ZSTD(1)),

    -- what was asked, and how it ended
    operation             LowCardinality(String),
    endpoint              LowCardinality(String),
    is_stream             Bool,
    model_requested       LowCardinality(String),
    model_served          LowCardinality(String),
    message_id            String CODEC(ZSTD(1)),
    upstream_request_id   String CODEC(ZSTD(1)),
    batch_id              String CODEC(ZSTD(1)),
    batch_custom_id       String CODEC(ZSTD(1)),
    http_status           UInt16,
    outcome               LowCardinality(String),
    error_type            LowCardinality(String),
    stop_reason           LowCardinality(String),

    -- what was used: additive dimensions, except that thinking_tokens is a part of output_tokens
    usage_status          LowCardinality(String),
    input_tokens          UInt64 CODEC(T64, ZSTD(1)),
    output_tokens         UInt64 CODEC(T64, ZSTD(1)),
    cache_read_tokens     UInt64 CODEC(T64, ZSTD(1)),
    cache_write_5m_tokens UInt64 CODEC(T64, ZSTD(1)),
    cache_write_1h_tokens UInt64 CODEC(T64, ZSTD(1)),
    thinking_tokens       UInt64 CODEC(T64, ZSTD(1)),
    web_search_requests   UInt64 CODEC(T64, ZSTD(1)),
    web_fetch_requests    UInt64 CODEC(T64, ZSTD(1)),
    service_tier          LowCardinality(String),
    speed                 LowCardinality(String),
    inference_geo         LowCardinality(String),
    usage_json            String CODEC(ZSTD(3)),

    -- what it cost: the sum per dimension, and the lines with their units and prices as JSON
    cost_status           LowCardinality(String),
    cost_usd              Decimal(18, 12) CODEC(ZSTD(1)),
    cost_lines            Map(LowCardinality(String), Decimal(18, 12)) CODEC(ZSTD(1)),
    cost_lines_json       String CODEC(ZSTD(3)),
    unpriced_dimensions   Array(LowCardinality(String)) CODEC(ZSTD(1)),
    price_book            LowCardinality(String),
    book_seq              UInt64 CODEC(T64, ZSTD(1)),

    -- how long it took
    ttfb_ms               UInt64 CODEC(T64, ZSTD(1)),
    duration_ms           UInt64 CODEC(T64, ZSTD(1)),
    overhead_us           UInt64 CODEC(T64, ZSTD(1)),

    ingested_at           DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1)),

    INDEX virtual_key_set    virtual_key_id      TYPE set(1000)           GRANULARITY 1,
    INDEX request_bloom      request_id          TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX upstream_bloom     upstream_request_id TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX message_bloom      message_id          TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX batch_bloom        batch_id            TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX session_bloom      session_id          TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX end_user_bloom     end_user_id         TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX tags_bloom         tags                TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX metadata_key_bloom mapKeys(metadata)   TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX metadata_bloom     mapValues(metadata) TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX ingested_minmax    ingested_at         TYPE minmax              GRANULARITY 1
)
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(started_at)
ORDER BY (toStartOfHour(started_at), request_id)
SETTINGS non_replicated_deduplication_window = 1000;

-- What analysts read: the latest version of each row, without the machinery. Versions of a row share a partition,
-- so partitions need not be merged with one another. An unknown cost is NULL, never 0: `sum` leaves it out, and
-- cost_status says which rows it left out.
CREATE VIEW IF NOT EXISTS tollhouse.usage AS
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
    finished_at, exchange_seq, source_id, source_seq, key_alias, cost_lines_json, unpriced_dimensions
FROM tollhouse_raw.usage FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;
