"""Declares every metric of Tollhouse: name, unit, closed labels, and one line that says what it means."""

from prometheus_client import Counter, Gauge, Histogram

# Seconds; from a cached token count to the longest thinking stream.
DURATION_BUCKETS_S = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

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
    ("reason",),  # unknown_model, no_price_at_date, unknown_dimension, unknown_endpoint
)

# -- sink ----------------------------------------------------------------------------------------------

sink_rows = Counter("sink_rows_total", "Rows that ClickHouse acknowledged.", ("table",))
sink_insert_duration = Histogram(
    "sink_insert_duration_seconds", "One insert, acknowledged.", ("table",), buckets=DURATION_BUCKETS_S
)
sink_insert_retries = Counter(
    "sink_insert_retries_total", "Inserts tried again because ClickHouse could not take them.", ("table",)
)
