-- The ledger: what every usage cost at every book that ever priced it, and the books themselves.
--
-- One row for each usage, book and kind: `charge`, and `orphans_charge` where the edge died and a real ending may yet
-- come. It never changes: of two the one that was booked first stays (precedence). Reversals are not stored but derived by the view, from the
-- charges that stand side by side. A stored reversal would have to name the charge that it takes back, and of two
-- repricings at once, a replay or a rolling deploy each would take back what it happened to see: once too often or
-- not at all. Derived, the signed lines of a usage add up to its cost today whoever wrote what, in whatever order.
--
-- * lines is keyed model/dimension: an exchange may have used several models.
-- * booked_at is when a charge came to stand. A usage that is published again comes with a later one, and the first
--   stays: precedence falls as booked_at rises, so what the books said on a day does not change afterwards.
-- * Partition and sort key are functions of what no version of a row changes, as in usage. There is no TTL.
CREATE TABLE IF NOT EXISTS tollhouse_raw.cost_ledger
(
    request_id          UUID,
    started_at          DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    book_seq            UInt64 CODEC(T64, ZSTD(1)),
    kind                LowCardinality(String),
    row_version         UInt64,
    booked_at           DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    precedence          UInt64 CODEC(Delta, ZSTD(1)),

    virtual_key_id      LowCardinality(String),
    team_id             LowCardinality(String),
    end_user_id         String CODEC(ZSTD(1)),
    operation           LowCardinality(String),
    model_served        LowCardinality(String),
    outcome             LowCardinality(String),

    cost_status         LowCardinality(String),
    lines               Map(LowCardinality(String), Decimal(38, 18)) CODEC(ZSTD(1)),
    amount_usd          Decimal(38, 18) CODEC(ZSTD(1)),
    unpriced_dimensions Array(LowCardinality(String)) CODEC(ZSTD(1)),
    price_book          LowCardinality(String),
    book_hash           LowCardinality(String),
    ingested_at         DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1)),

    INDEX virtual_key_set virtual_key_id TYPE set(1000)          GRANULARITY 1,
    INDEX request_bloom   request_id     TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX ingested_minmax ingested_at    TYPE minmax             GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(started_at)
ORDER BY (toStartOfHour(started_at), request_id, book_seq, kind)
SETTINGS non_replicated_deduplication_window = 1000;

-- Each charge as an entry, and where a higher-ranked one was booked later, its reversal at that moment, with every
-- sign turned. So for each usage
--   the sum of all entries                        is its cost today, that of the highest-ranked charge;
--   the sum of the entries booked until a moment  is its cost as the books stood then;
--   the charge with is_first                      is its cost as it was booked first.
-- A charge that was outranked before it was booked never stood, and has no entry. An unknown cost is NULL.
-- Window functions are cut by (started_at, request_id), which conditions on those two may pass.
CREATE OR REPLACE VIEW tollhouse.cost_ledger AS
SELECT
    request_id,
    started_at,
    if(sign = 1, 'charge', 'reversal') AS entry,
    if(sign = 1, charge.booked_at, outranked_at) AS booked_at,
    book_seq,
    if(cost_status = 'unpriced', NULL, charge.amount_usd * sign) AS amount_usd,
    mapApply((line, amount) -> (line, CAST(amount * sign AS Decimal(38, 18))), charge.lines) AS lines,
    cost_status, unpriced_dimensions, price_book, book_hash,
    CAST(sign = 1 AND (lower = 0 OR lower_booked_at > charge.booked_at) AS Bool) AS is_first,
    CAST(sign = 1 AND higher = 0 AS Bool) AS is_current,
    virtual_key_id, team_id, end_user_id, operation, model_served, outcome, row_version, ingested_at
FROM
(
    SELECT
        *,
        count() OVER above AS higher,
        min(booked_at) OVER above AS outranked_at,
        count() OVER below AS lower,
        min(booked_at) OVER below AS lower_booked_at
    FROM tollhouse_raw.cost_ledger FINAL
    WINDOW
        above AS
        (
            PARTITION BY started_at, request_id ORDER BY row_version
            ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
        ),
        below AS
        (
            PARTITION BY started_at, request_id ORDER BY row_version
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )
) AS charge
ARRAY JOIN if(higher = 0, [1], [1, -1]) AS sign
WHERE higher = 0 OR outranked_at >= charge.booked_at
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- Every edition of the price book that anything was priced by. Of two with one book_seq the first in its topic is
-- the book, and the only one that is ever used; published_at tells the first.
CREATE TABLE IF NOT EXISTS tollhouse_raw.price_books
(
    book_seq     UInt64,
    book_hash    String,
    label        String,
    published_at DateTime64(3, 'UTC'),
    content      String CODEC(ZSTD(3)),
    ingested_at  DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY (book_seq, book_hash)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE VIEW IF NOT EXISTS tollhouse.price_books AS
SELECT book_seq, book_hash, label, published_at, content, ingested_at
FROM tollhouse_raw.price_books FINAL;
