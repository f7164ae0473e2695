-- What consumers set aside, and when it was sent back: one row for each record, stage and fate.
--
-- * A letter is named by where its record lay, as logs and `tollhouse dlq` name it. A letter that is read again is the
--   same row; of two for one place and stage the later is right.
-- * The stage `redrive` says of a place that its record went back; the view sets it beside the letter.
-- * The record's bytes are not here. Events hold no prompt and no body, but what could not be read may be anything;
--   they stay on the dead-letter topic for 30 days, where `tollhouse dlq show` reads them and `redrive` sends them back.
-- * request_id, edge_id and exchange_seq are those of the record where it, or its headers, could still be read:
--   completeness counts by them.
-- * Few rows, kept for 13 months as requests are; no partitions, for dead_at differs between letters of one place.
CREATE TABLE IF NOT EXISTS tollhouse_raw.dead_letters
(
    topic        LowCardinality(String),
    partition    UInt64,
    offset       UInt64,
    stage        LowCardinality(String),
    dead_at      DateTime64(3, 'UTC'),
    error_class  LowCardinality(String),
    error        String CODEC(ZSTD(1)),
    request_id   UUID,
    edge_id      LowCardinality(String),
    exchange_seq UInt64,
    value_bytes  UInt64,
    ingested_at  DateTime64(3, 'UTC') DEFAULT now64(3),

    INDEX request_bloom request_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(dead_at)
ORDER BY (topic, partition, offset, stage)
TTL toDateTime(dead_at) + INTERVAL 13 MONTH
SETTINGS non_replicated_deduplication_window = 1000;

-- redriven_at is NULL while the record waits for somebody.
CREATE OR REPLACE VIEW tollhouse.dead_letters AS
SELECT
    topic, partition, offset, stage, dead_at, error_class, error,
    nullIf(request_id, toUUID('00000000-0000-0000-0000-000000000000')) AS request_id,
    edge_id, exchange_seq, value_bytes,
    if(redriven >= dead_at, redriven, NULL) AS redriven_at,
    ingested_at
FROM
(
    SELECT
        *,
        maxIf(dead_at, stage = 'redrive') OVER (PARTITION BY topic, partition, offset) AS redriven
    FROM tollhouse_raw.dead_letters FINAL
)
WHERE stage != 'redrive';
