-- Heartbeats of the edges, one a second each: how far an edge's exchange numbers have come. Held against the numbers
-- in usage they prove that nothing is missing. Kept for 7 days, as their topic is; a day is dropped as a whole.
CREATE TABLE IF NOT EXISTS tollhouse_raw.edges
(
    edge_id            LowCardinality(String),
    at                 DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    source_id          LowCardinality(String),
    process_started_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    exchange_seq       UInt64 CODEC(Delta, ZSTD(1)),
    open_exchanges     UInt64 CODEC(T64, ZSTD(1)),
    spool_entries      UInt64 CODEC(T64, ZSTD(1)),
    spool_bytes        UInt64 CODEC(T64, ZSTD(1)),
    ingested_at        DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(at)
ORDER BY (edge_id, at)
TTL toDateTime(at) + INTERVAL 7 DAY
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1;

CREATE VIEW IF NOT EXISTS tollhouse.edges AS
SELECT
    edge_id, at, source_id, process_started_at, exchange_seq, open_exchanges, spool_entries, spool_bytes, ingested_at
FROM tollhouse_raw.edges FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;
