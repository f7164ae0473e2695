-- Usage by the hour, for dashboards over months: rebuilt whole from usage, never added to as rows come.
--
-- A materialized view that adds at every insert counts a replay, a better ending and another price twice. Here the
-- owner of partition 0 of gateway.rated.v1 rebuilds, every minute, each hour that rows came into since the rebuild
-- before it less 10 minutes:
--   1. the generation is taken: the time, in microseconds, before anything is read;
--   2. the hour is read from usage FINAL and written under that generation;
--   3. its pointer is written, last: readers go from one whole generation to the next, and never see half of one;
--   4. when all hours are done, the rebuild is noted; one that ended earlier is done again by the next.
-- Two who rebuild at once write two generations, of which one is read. What no pointer names is deleted after an hour.
CREATE TABLE IF NOT EXISTS tollhouse_raw.usage_hourly
(
    hour                  DateTime('UTC'),
    generation            UInt64,
    virtual_key_id        LowCardinality(String),
    team_id               LowCardinality(String),
    model                 LowCardinality(String),
    operation             LowCardinality(String),
    outcome               LowCardinality(String),
    service_tier          LowCardinality(String),
    requests              UInt64,
    unpriced              UInt64,
    partly_priced         UInt64,
    not_final             UInt64,
    input_tokens          UInt64,
    output_tokens         UInt64,
    cache_read_tokens     UInt64,
    cache_write_5m_tokens UInt64,
    cache_write_1h_tokens UInt64,
    thinking_tokens       UInt64,
    web_search_requests   UInt64,
    web_fetch_requests    UInt64,
    cost_usd              Decimal(38, 18),
    ttfb_ms_state         AggregateFunction(quantilesTDigest(0.5, 0.9, 0.99), UInt64),
    duration_ms_state     AggregateFunction(quantilesTDigest(0.5, 0.9, 0.99), UInt64),
    end_users_state       AggregateFunction(uniq, String)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, generation, virtual_key_id)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS tollhouse_raw.usage_hourly_generations
(
    hour       DateTime('UTC'),
    generation UInt64
)
ENGINE = ReplacingMergeTree(generation)
ORDER BY hour;

CREATE TABLE IF NOT EXISTS tollhouse_raw.usage_hourly_rebuilds
(
    generation  UInt64,
    hours       UInt64,
    finished_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY generation
TTL toDateTime(finished_at) + INTERVAL 1 YEAR;

-- cost_usd leaves out the `unpriced` requests, and is NULL where all are; `partly_priced` ones are in it with what of
-- them has a price. `not_final` ones have token counts that are partial or estimated, or none.
-- Of states: quantilesTDigestMerge(0.5, 0.9, 0.99)(ttfb_ms_state), uniqMerge(end_users_state).
CREATE OR REPLACE VIEW tollhouse.usage_hourly AS
SELECT
    hour, virtual_key_id, team_id, model, operation, outcome, service_tier,
    requests, unpriced, partly_priced, not_final,
    input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
    thinking_tokens, web_search_requests, web_fetch_requests,
    if(unpriced = requests, NULL, hourly.cost_usd) AS cost_usd,
    ttfb_ms_state, duration_ms_state, end_users_state
FROM tollhouse_raw.usage_hourly AS hourly
WHERE (hour, generation) IN
(
    SELECT hour, max(generation) FROM tollhouse_raw.usage_hourly_generations GROUP BY hour
);
