-- Every exchange that began: who asked for what, written before the request went upstream. Beside tollhouse.usage
-- it shows what is still open, and what the fact leaves out: sizes, the client's name, the API version.
-- A row never changes, so the engine needs no version: it only folds replays. Kept for 13 months, so that a month can
-- be held against the same month of the year before; the books themselves are in usage.
CREATE TABLE IF NOT EXISTS tollhouse_raw.requests
(
    request_id         UUID,
    started_at         DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    edge_id            LowCardinality(String),
    exchange_seq       UInt64 CODEC(Delta, ZSTD(1)),
    virtual_key_id     LowCardinality(String),
    key_alias          LowCardinality(String),
    team_id            LowCardinality(String),
    end_user_id        String CODEC(ZSTD(1)),
    session_id         String CODEC(ZSTD(1)),
    tags               Array(LowCardinality(String)) CODEC(ZSTD(1)),
    metadata           Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    method             LowCardinality(String),
    operation          LowCardinality(String),
    endpoint           LowCardinality(String),
    model_requested    LowCardinality(String),
    is_stream          Bool,
    request_bytes      UInt64 CODEC(T64, ZSTD(1)),
    client_user_agent  LowCardinality(String),
    anthropic_version  LowCardinality(String),
    anthropic_beta     LowCardinality(String),
    ingested_at        DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1)),

    INDEX virtual_key_set virtual_key_id TYPE set(1000)          GRANULARITY 1,
    INDEX request_bloom   request_id     TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX session_bloom   session_id     TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX end_user_bloom  end_user_id    TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX tags_bloom      tags           TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX ingested_minmax ingested_at    TYPE minmax             GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(started_at)
ORDER BY (toStartOfHour(started_at), request_id)
TTL toDateTime(started_at) + INTERVAL 13 MONTH
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1;

CREATE VIEW IF NOT EXISTS tollhouse.requests AS
SELECT
    request_id, started_at, edge_id, exchange_seq,
    virtual_key_id, key_alias, team_id, end_user_id, session_id, tags, metadata,
    method, operation, endpoint, model_requested, is_stream, request_bytes,
    client_user_agent, anthropic_version, anthropic_beta, ingested_at
FROM tollhouse_raw.requests FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;
