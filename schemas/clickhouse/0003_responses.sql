-- How every exchange ended, as the edge saw it. Two endings are possible for one exchange: the edge that adopts a dead
-- edge's spool closes what was open as `orphaned`, and the real ending may still arrive. row_version is 0 for the
-- former and 1 for every other outcome, so the real one stands whatever the order of arrival.
-- Kept for 13 months, as requests are.
CREATE TABLE IF NOT EXISTS tollhouse_raw.responses
(
    request_id          UUID,
    started_at          DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    row_version         UInt64,
    finished_at         DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    edge_id             LowCardinality(String),
    exchange_seq        UInt64 CODEC(Delta, ZSTD(1)),
    virtual_key_id      LowCardinality(String),
    operation           LowCardinality(String),
    endpoint            LowCardinality(String),
    outcome             LowCardinality(String),
    http_status         UInt16,
    error_type          LowCardinality(String),
    stop_reason         LowCardinality(String),
    upstream_request_id String CODEC(ZSTD(1)),
    response_bytes      UInt64 CODEC(T64, ZSTD(1)),
    ttfb_ms             UInt64 CODEC(T64, ZSTD(1)),
    duration_ms         UInt64 CODEC(T64, ZSTD(1)),
    overhead_us         UInt64 CODEC(T64, ZSTD(1)),
    ingested_at         DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1)),

    INDEX virtual_key_set virtual_key_id      TYPE set(1000)          GRANULARITY 1,
    INDEX request_bloom   request_id          TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX upstream_bloom  upstream_request_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX ingested_minmax ingested_at         TYPE minmax             GRANULARITY 1
)
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(started_at)
ORDER BY (toStartOfHour(started_at), request_id)
TTL toDateTime(started_at) + INTERVAL 13 MONTH
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1;

CREATE VIEW IF NOT EXISTS tollhouse.responses AS
SELECT
    request_id, started_at, finished_at, edge_id, exchange_seq, virtual_key_id,
    operation, endpoint, outcome, http_status, error_type, stop_reason, upstream_request_id,
    response_bytes, ttfb_ms, duration_ms, overhead_us, ingested_at
FROM tollhouse_raw.responses FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;
