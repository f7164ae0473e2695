"""Declares every metric of Tollhouse: name, unit, closed labels, and one line that says what it means."""

from prometheus_client import Counter, Gauge, Histogram

# Seconds; from a cached token count to the longest thinking stream.
DURATION_BUCKETS_S = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

# -- every process ---------------------------------------------------------------------------------------

log_lines_lost = Counter("log_lines_lost_total", "Log lines that standard error did not take.")
publisher_records = Counter("publisher_records_total", "Records that Kafka acknowledged.")
publisher_failures = Counter(
    "publisher_failures_total", "Publications that were not acknowledged in full and were tried again."
)
spool_entries = Gauge("spool_entries", "Entries on disk that Kafka has not acknowledged, or still open.")
spool_bytes = Gauge("spool_bytes", "Their size.")
spool_bytes_max = Gauge("spool_bytes_max", "The size at which new exchanges are refused.")

# -- edge ------------------------------------------------------------------------------------------------

edge_exchanges = Counter(
    "edge_exchanges_total",
    "Exchanges that ended, by what was asked and how it ended.",
    ("operation", "outcome"),
)
edge_open_exchanges = Gauge("edge_open_exchanges", "Exchanges that are under way.")
edge_refusals = Counter(
    "edge_refusals_total",
    "Answers of the gateway's own, by the reason of the Refusal (edge/refusals.py).",
    ("reason",),
)
edge_duration = Histogram(
    "edge_duration_seconds", "From request line to last byte.", ("operation",), buckets=DURATION_BUCKETS_S
)
edge_overhead = Histogram(
    "edge_overhead_seconds",
    "The gateway's own part of an exchange: before the upstream call begins and after upstream's headers.",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25),
)
edge_spool_slow = Counter("edge_spool_slow_total", "Closing appends that took longer than SPOOL_WAIT_MS_MAX.")
edge_records_lost = Counter(
    "edge_records_lost_total",
    "Entries that could not be written to the spool; each is an exchange without its record.",
    ("stage",),  # opened, started, closed
)
edge_tap_faults = Counter(
    "edge_tap_faults_total",
    "Responses whose usage could not be read to the end, by what stood in the way.",
    ("reason",),  # undecodable, too_large, unknown_coding
)
edge_drains = Counter(
    "edge_drains_total", "Clients that hung up, by what became of the upstream answer.", ("end",)
)
edge_metadata_cut = Counter(
    "edge_metadata_cut_total", "Attribution that went beyond a limit and was cut.", ("what",)
)

# -- consumers: rating, sink ---------------------------------------------------------------------------

consumer_records = Counter(
    "consumer_records_total", "Records read from Kafka and finished with.", ("stage", "topic")
)
consumer_dead_letters = Counter(
    "consumer_dead_letters_total", "Records set aside on a dead-letter topic.", ("stage", "topic")
)
consumer_batch_duration = Histogram(
    "consumer_batch_duration_seconds",
    "From a batch's first record in hand to its offsets committed.",
    ("stage",),
    buckets=DURATION_BUCKETS_S,
)
consumer_committed_offset = Gauge(
    "consumer_committed_offset", "The next offset of each partition held.", ("stage", "topic", "partition")
)

# -- rating --------------------------------------------------------------------------------------------

rating_usages = Counter(
    "rating_usages_total", "Usage records rated, by what their cost status came to be.", ("cost_status",)
)
rating_unpriced = Counter(
    "rating_unpriced_total",
    "Usage records that could not be priced in full, by what was missing.",
    # unknown_model, no_price_at_date, unknown_dimension, unknown_endpoint, unknown_modifier, no_usage
    ("reason",),
)

# -- sink ----------------------------------------------------------------------------------------------

sink_rows = Counter("sink_rows_total", "Rows that ClickHouse acknowledged.", ("table",))
sink_insert_duration = Histogram(
    "sink_insert_duration_seconds", "One insert, acknowledged.", ("table",), buckets=DURATION_BUCKETS_S
)
sink_insert_retries = Counter(
    "sink_insert_retries_total", "Inserts tried again because ClickHouse could not take them.", ("table",)
)
sink_store_away = Gauge("sink_store_away", "1 while the sink waits for ClickHouse, else 0.")
sink_records_dropped = Counter(
    "sink_records_dropped_total", "Unusable records of topics that keep no dead letters.", ("topic",)
)
