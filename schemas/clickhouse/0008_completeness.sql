-- Completeness: for each edge process, whether every exchange that it took in is accounted for.
--
-- An edge numbers its exchanges 1, 2, 3 ... and says in every heartbeat how far it is. Each number is then looked for.
-- The view is asked with its parameters, and reads no more than they ask for:
--   SELECT * FROM tollhouse.completeness(since = now() - INTERVAL 1 DAY, settle_s = 60)
--
-- * Numbers are counted as sets (bitmaps), so that a replay, a duplicate or another price changes nothing.
-- * `accepted`: numbers first_seq to last_seq, those given out since `since`. first_seq follows the last heartbeat
--   before it. accepted = stored + dead_lettered + shed + pending + missing.
-- * `pending`: numbers that cannot be judged yet: of exchanges that are open, or were when the edge was heard settle_s
--   ago, or came after. A heartbeat names the oldest that is open, so every number below it had closed; one with more
--   than 1,000 entries in the spool judges nothing, for the edge is only catching up.
-- * An edge that is not heard of for settle_s and a minute more, two looks of those who adopt spools, is silent: all of
--   its numbers are judged. What it left in a spool is missing until somebody publishes that.
-- * `missing`: judged, and nowhere accounted for. Exchanges that were shed have no record; the heartbeat counts them.
-- * `missing_seqs` names the first 100 numbers that were judged and have no record, among the first ten million; those
--   that were shed are among them.
-- * `rated` has beside what is stored what the sink set aside. A letter that was sent back settle_s ago counts no more.
ALTER TABLE tollhouse_raw.edges
    ADD COLUMN IF NOT EXISTS oldest_open_seq UInt64 CODEC(T64, ZSTD(1)) AFTER shed;

CREATE OR REPLACE VIEW tollhouse.edges AS
SELECT
    edge_id, at, source_id, process_started_at, exchange_seq, open_exchanges, spool_entries, spool_bytes, ingested_at,
    shed, oldest_open_seq
FROM tollhouse_raw.edges FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE OR REPLACE VIEW tollhouse.completeness AS
WITH
    -- One heartbeat before `since` is enough; an exchange may have taken an hour to send its request.
    {since:DateTime64(3, 'UTC')} AS begin,
    begin - INTERVAL 1 HOUR AS heard_from,
    begin - INTERVAL 2 HOUR AS rows_from,
    now64(3, 'UTC') - toIntervalSecond({settle_s:UInt32}) AS settled_at,
    settled_at - INTERVAL 1 MINUTE AS silent_at,
    closed AS
    (
        SELECT
            edge_id,
            min(process_started_at) AS process_began_at,
            max(at) AS last_heartbeat_at,
            max(ingested_at) AS last_ingested_at,
            countIf(at < begin) > 0 AS has_base,
            maxIf(exchange_seq, at < begin) AS base_seq,
            maxIf(shed, at < begin) AS base_shed,
            max(exchange_seq) AS heartbeat_seq,
            max(shed) AS heartbeat_shed,
            argMax(open_exchanges, at) AS heartbeat_open,
            -- Everything up to this number had closed when the heartbeat was sent.
            maxIf
            (
                if(oldest_open_seq > 0, toUInt64(oldest_open_seq - 1), exchange_seq),
                ingested_at <= settled_at AND spool_entries <= 1000
                    AND (open_exchanges = 0 OR oldest_open_seq > 0)
            ) AS closed_seq
        FROM tollhouse_raw.edges
        WHERE at >= heard_from
        GROUP BY edge_id
    ),
    -- The last heartbeat whose numbers had all closed: with it goes the count of those that were shed.
    judged AS
    (
        SELECT edge_id, max(exchange_seq) AS judged_seq, max(shed) AS judged_shed
        FROM tollhouse_raw.edges
        INNER JOIN (SELECT edge_id, closed_seq FROM closed) AS upto USING (edge_id)
        WHERE at >= heard_from AND exchange_seq <= closed_seq
        GROUP BY edge_id
    ),
    letters AS
    (
        SELECT topic, request_id, edge_id, exchange_seq, dead_at, ingested_at
        FROM tollhouse.dead_letters
        WHERE topic IN ('gateway.usage.v1', 'gateway.rated.v1') AND dead_at >= rows_from
            AND (redriven_at IS NULL OR redriven_at > settled_at)
    ),
    numbered AS
    (
        SELECT edge_id, exchange_seq, 'began' AS what, started_at AS at, ingested_at
        FROM tollhouse_raw.requests
        WHERE started_at >= rows_from
        UNION ALL
        SELECT edge_id, exchange_seq, 'finished', started_at, ingested_at
        FROM tollhouse_raw.responses
        WHERE started_at >= rows_from
        UNION ALL
        SELECT edge_id, exchange_seq, if(outcome = 'orphaned', 'orphaned', 'stored'), started_at, ingested_at
        FROM tollhouse_raw.usage
        WHERE started_at >= rows_from AND operation != 'batch_item'
        UNION ALL
        SELECT edge_id, exchange_seq, if(topic = 'gateway.rated.v1', 'dead rated', 'dead'), dead_at, ingested_at
        FROM letters
        WHERE edge_id != ''
        UNION ALL
        -- A record that could not be read is known by its headers; the request says which number that was.
        SELECT
            request.edge_id, request.exchange_seq,
            if(letter.topic = 'gateway.rated.v1', 'dead rated', 'dead'), letter.dead_at, letter.ingested_at
        FROM (SELECT * FROM letters WHERE edge_id = '' AND request_id IS NOT NULL) AS letter
        INNER JOIN
        (
            SELECT toNullable(request_id) AS request_id, edge_id, exchange_seq
            FROM tollhouse_raw.requests
            WHERE started_at >= rows_from
                AND request_id IN (SELECT assumeNotNull(request_id) FROM letters WHERE edge_id = '')
        ) AS request ON request.request_id = letter.request_id
        UNION ALL
        SELECT edge_id, 0, 'heard', last_heartbeat_at, last_ingested_at
        FROM closed
    ),
    sets AS
    (
        SELECT
            edge_id,
            max(at) AS last_at,
            max(ingested_at) AS last_row_at,
            groupBitmapStateIf(exchange_seq, what = 'began') AS began_set,
            groupBitmapStateIf(exchange_seq, what = 'finished') AS finished_set,
            groupBitmapStateIf(exchange_seq, what = 'stored') AS real_set,
            groupBitmapStateIf(exchange_seq, what IN ('stored', 'orphaned')) AS stored_set,
            groupBitmapStateIf(exchange_seq, what IN ('stored', 'orphaned', 'dead rated')) AS rated_set,
            groupBitmapStateIf(exchange_seq, what IN ('stored', 'orphaned', 'dead rated', 'dead')) AS accounted_set,
            groupBitmapStateIf(exchange_seq, what != 'heard') AS any_set
        FROM numbered
        WHERE edge_id != ''
        GROUP BY edge_id
    ),
    bounds AS
    (
        SELECT
            *,
            -- The id of an edge tells when it began, where no heartbeat did.
            if(heartbeat_known, process_began_at, UUIDv7ToDateTime(toUUIDOrZero(edge_id), 'UTC')) AS edge_began_at,
            bitmapMax(any_set) AS row_seq,
            multiIf
            (
                has_base, base_seq,
                edge_began_at >= heard_from OR row_seq = 0, toUInt64(0),
                toUInt64(bitmapMin(any_set) - 1)
            ) AS base,
            greatest(base, heartbeat_seq, row_seq) AS last_seq,
            CAST(greatest(last_ingested_at, last_row_at) < silent_at AS Bool) AS is_silent,
            if(is_silent, last_seq, greatest(base, judged_seq)) AS settled_seq,
            if(is_silent, heartbeat_shed, greatest(base_shed, judged_shed)) - base_shed AS settled_shed
        FROM sets
        LEFT JOIN (SELECT *, true AS heartbeat_known FROM closed) AS closed USING (edge_id)
        LEFT JOIN judged USING (edge_id)
        WHERE last_at >= begin
    )
SELECT
    edge_id,
    edge_began_at AS began_at,
    if(heartbeat_known, last_heartbeat_at, NULL) AS heartbeat_at,
    is_silent,
    base + 1 AS first_seq,
    last_seq,
    settled_seq,
    last_seq - base AS accepted,
    bitmapCardinality(bitmapSubsetInRange(finished_set, first_seq, last_seq + 1)) AS finished,
    if(is_silent, 0, heartbeat_open) AS open,
    bitmapCardinality(bitmapSubsetInRange(rated_set, first_seq, last_seq + 1)) AS rated,
    bitmapCardinality(bitmapSubsetInRange(stored_set, first_seq, last_seq + 1)) AS stored,
    bitmapCardinality(bitmapSubsetInRange(accounted_set, first_seq, last_seq + 1)) - stored AS dead_lettered,
    heartbeat_shed - base_shed AS shed,
    bitmapCardinality(bitmapAndnot(bitmapSubsetInRange(stored_set, first_seq, last_seq + 1), real_set)) AS orphaned,
    greatest(0, toInt64(heartbeat_seq) - toInt64(greatest(base, row_seq))) AS heartbeat_only,
    greatest(0, toInt64(accepted) - stored - dead_lettered - shed - missing) AS pending,
    greatest
    (
        0,
        toInt64(settled_seq - base) - settled_shed
            - bitmapCardinality(bitmapSubsetInRange(accounted_set, first_seq, settled_seq + 1))
    ) AS missing,
    bitmapToArray
    (
        bitmapSubsetLimit
        (
            bitmapAndnot
            (
                bitmapBuild(range(first_seq, if(missing > 0, least(settled_seq, base + 10000000) + 1, first_seq))),
                accounted_set
            ),
            0, 100
        )
    ) AS missing_seqs
FROM bounds;
