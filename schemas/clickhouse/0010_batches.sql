-- Message batches as the batch tracker knows them: one row each, of the highest version.
--
-- * The row is the latest record of gateway.batches.v1; a record that is read again, or late, changes nothing. What a
--   batch's items cost is not in it: they are rows of `usage` (operation batch_item), and the view adds them up.
-- * `virtual_key_id` and what follows are the creator's; `unattributed` where nobody is known to have made it.
-- * A batch keeps its row for 13 months after it was made, as requests do; its items, the books, stay.
-- * No time of Kafka's or of a tracker is part of the sort key: two versions of a row always meet.
CREATE TABLE IF NOT EXISTS tollhouse_raw.batches
(
    batch_id          String,
    version           UInt64,
    at                DateTime64(3, 'UTC'),
    phase             LowCardinality(String),
    status            LowCardinality(String),
    created_at        DateTime64(3, 'UTC'),
    expires_at        DateTime64(3, 'UTC'),
    ended_at          DateTime64(3, 'UTC'),
    closed_at         DateTime64(3, 'UTC'),
    virtual_key_id    LowCardinality(String),
    key_alias         LowCardinality(String),
    team_id           LowCardinality(String),
    end_user_id       String CODEC(ZSTD(1)),
    session_id        String CODEC(ZSTD(1)),
    tags              Array(LowCardinality(String)) CODEC(ZSTD(1)),
    metadata          Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    client_app        LowCardinality(String),
    client_version    LowCardinality(String),
    agent_id          String CODEC(ZSTD(1)),
    parent_agent_id   String CODEC(ZSTD(1)),
    device_id         String CODEC(ZSTD(1)),
    account_id        String CODEC(ZSTD(1)),
    credential        LowCardinality(String),
    request_id        String,
    is_adopted        Bool,
    models            Array(LowCardinality(String)),
    requests          UInt64,
    processing        UInt64,
    succeeded         UInt64,
    errored           UInt64,
    canceled          UInt64,
    expired           UInt64,
    lines_read        UInt64,
    booked_succeeded  UInt64,
    booked_errored    UInt64,
    booked_canceled   UInt64,
    booked_expired    UInt64,
    malformed         UInt64,
    error             String,
    ingested_at       DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY batch_id
TTL toDateTime(created_at) + INTERVAL 13 MONTH
SETTINGS non_replicated_deduplication_window = 1000;

-- `items_booked` counts what the tracker has published, `items` the rows that are in `usage`; the latter comes a moment
-- later. `lag_s` is from Anthropic's end of the batch to its last item booked, NULL until then. `cost_usd` is NULL while no
-- item is there, and leaves out `items_unpriced`.
CREATE OR REPLACE VIEW tollhouse.batches AS
SELECT
    batch_id, phase, status, created_at, expires_at,
    nullIf(ended_at, toDateTime64(0, 3, 'UTC')) AS ended_at,
    nullIf(closed_at, toDateTime64(0, 3, 'UTC')) AS closed_at,
    if(phase = 'booked', dateDiff('second', batch.ended_at, batch.closed_at), NULL) AS lag_s,
    requests, processing, succeeded, errored, canceled, expired,
    booked_succeeded + booked_errored + booked_canceled + booked_expired AS items_booked,
    malformed,
    booked.items AS items,
    booked.items_unpriced AS items_unpriced,
    if(booked.items = 0, NULL, booked.cost_usd) AS cost_usd,
    virtual_key_id, key_alias, team_id, end_user_id, session_id, tags, metadata,
    client_app, client_version, agent_id, parent_agent_id, device_id, account_id,
    credential, request_id, is_adopted, models, error, version, at, ingested_at
FROM (SELECT * FROM tollhouse_raw.batches FINAL) AS batch
LEFT JOIN
(
    SELECT
        batch_id,
        count() AS items,
        countIf(cost_status = 'unpriced') AS items_unpriced,
        sum(cost_usd) AS cost_usd
    FROM tollhouse.usage
    WHERE operation = 'batch_item' AND started_at >= (SELECT min(created_at) FROM tollhouse_raw.batches)
    GROUP BY batch_id
) AS booked USING (batch_id);
