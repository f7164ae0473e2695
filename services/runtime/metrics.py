"""Declares every metric of Tollhouse: name, unit, closed labels, and one line that says what it means."""

from prometheus_client import Counter, Gauge, Histogram

# Seconds; from a cached token count to the longest thinking stream.
DURATION_BUCKETS_S = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

# -- every process ---------------------------------------------------------------------------------------

log_lines_lost = Counter("log_lines_lost_total", "Log lines that standard error did not take.")
http_connections_cut = Counter(
    "http_connections_cut_total",
    "Connections closed because the client went beyond a limit (runtime/http_protocol.py).",
    ("reason",),  # head_too_large, not_http, slow_head, slow_reader, pipelined
)
publisher_records = Counter("publisher_records_total", "Records that Kafka acknowledged.")
publisher_failures = Counter(
    "publisher_failures_total", "Publications that were not acknowledged in full and were tried again."
)
publisher_refused_records = Counter(
    "publisher_refused_records_total",
    "Records that a broker will not take, being too large; set aside by whoever published them.",
    ("topic",),
)
spool_entries = Gauge("spool_entries", "Entries on disk that Kafka has not acknowledged.")
spool_open_exchanges = Gauge("spool_open_exchanges", "Exchanges in the spool without a closing entry.")
spool_bytes = Gauge("spool_bytes", "What the spool's files take on disk.")
spool_bytes_max = Gauge("spool_bytes_max", "The size at which edge.spool.when_full decides.")
spool_failures = Counter(
    "spool_failures_total",
    "Rounds that Kafka or the disk did not take, to be tried again; syncs that failed.",
    ("what",),  # publish, disk, rotate, sync
)
spool_refused_records = Counter(
    "spool_refused_records_total",
    "Records that Kafka will never take: kept in refused.jsonl, or dropped where that is full.",
    ("end",),  # kept, dropped
)
spool_adoptions = Counter(
    "spool_adoptions_total", "Spools of dead processes that were published and given back."
)

# -- edge ------------------------------------------------------------------------------------------------

edge_exchanges = Counter(
    "edge_exchanges_total",
    "Exchanges that ended, by what was asked and how it ended.",
    ("operation", "outcome"),
)
edge_open_exchanges = Gauge("edge_open_exchanges", "Exchanges that are under way.")
edge_body_bytes = Gauge(
    "edge_body_bytes", "Request bodies held in memory, at most edge.bodies_in_memory_bytes_max."
)
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
    "Entries that could not be written to the spool: records of an exchange, or what was added to them.",
    ("stage",),  # opened, started, closed, added
)
edge_shed = Counter(
    "edge_shed_total", "Exchanges served without a record: no room in the spool, and when_full is shed."
)
edge_tap_faults = Counter(
    "edge_tap_faults_total",
    "Responses whose usage could not be read to the end, by what stood in the way.",
    ("reason",),  # undecodable, too_large, unknown_coding
)
edge_drains = Counter(
    "edge_drains_total", "Clients that hung up, by what became of the upstream answer.", ("end",)
)
edge_events_cut = Counter(
    "edge_events_cut_total",
    "Events beyond 512 KiB that went without a member, which they name.",
    ("what",),  # usage, metadata, tags
)
edge_batch_files_bytes = Gauge(
    "edge_batch_files_bytes", "Bodies that create batches, on disk; at most edge.batches.bytes_max."
)
edge_batch_facts = Counter(
    "edge_batch_facts_total", "Facts about batches, by what they say.", ("what",)
)  # created, items, seen, deleted
edge_batch_objects_unread = Counter(
    "edge_batch_objects_unread_total",
    "Batch objects in answers that could not be read, and of which no fact tells.",
)
edge_batch_items = Counter(
    "edge_batch_items_total",
    "Items metered as their results were downloaded under the caller's own key, and lines that could not be.",
    ("what",),  # booked, unreadable, too_long
)
edge_batch_downloads_unmetered = Counter(
    "edge_batch_downloads_unmetered_total",
    "Downloads of results under a caller's own key of which no item, or not every one, was metered.",
    ("reason",),  # batch_unknown, not_whole, coding
)
edge_metadata_cut = Counter(
    "edge_metadata_cut_total", "Attribution that went beyond a limit and was cut.", ("what",)
)

edge_log_records = Gauge(
    "edge_log_records",
    "Records that an edge holds of a topic which it follows: of keys also deleted ones, of batches owners.",
    ("topic",),
)
edge_log_away = Gauge(
    "edge_log_away",
    "1 while a topic that the edge follows cannot be read: what is known of it so far counts, else 0.",
    ("topic",),
)
edge_log_undecodable = Counter(
    "edge_log_undecodable_total",
    "Records of a topic that the edge follows which are not what they should be, passed over.",
    ("topic",),
)

# -- consumers: rating, sink ---------------------------------------------------------------------------

consumer_records = Counter(
    "consumer_records_total", "Records read from Kafka and finished with.", ("stage", "topic")
)
consumer_dead_letters = Counter(
    "consumer_dead_letters_total", "Records set aside on a dead-letter topic.", ("stage", "topic")
)
consumer_kafka_away = Gauge(
    "consumer_kafka_away", "1 while Kafka has not answered for 30 s, else 0.", ("stage",)
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
# The one label with names from outside: 100 of them, by cost, and `other`; "" is no end user. Opt-in.
rating_end_user_usages = Counter(
    "rating_end_user_usages_total",
    "Usage records rated, by end user (rating.enable_end_user_cost_tracking_prometheus_only).",
    ("end_user",),
)
rating_end_user_cost = Counter(
    "rating_end_user_cost_usd_total",
    "What they cost as booked; for charts, never for bills: ClickHouse has the exact sums.",
    ("end_user",),
)

# -- batch tracker -------------------------------------------------------------------------------------

batch_tracker_batches = Gauge(
    "batch_tracker_batches", "Batches of the partitions held, by phase (schemas/batches.py).", ("phase",)
)
batch_tracker_looks = Counter(
    "batch_tracker_looks_total",
    "Calls about a batch, by what came of them.",
    ("result",),  # answered, try_later, not_there, refused
)
batch_tracker_items = Counter(
    "batch_tracker_items_total", "Items published, by outcome; those read again count again.", ("outcome",)
)
batch_tracker_items_refused = Counter(
    "batch_tracker_items_refused_total", "Items whose usage Kafka will never take, being too large."
)
batch_tracker_lines_malformed = Counter(
    "batch_tracker_lines_malformed_total", "Lines of results that are none: booked without a price."
)
batch_tracker_chunks_missing = Counter(
    "batch_tracker_chunks_missing_total",
    "Chunks of items that did not come: their items are booked to the creator alone.",
)
batch_tracker_closed = Counter(
    "batch_tracker_closed_total", "Batches that came to an end, by which.", ("phase",)
)
batch_tracker_lag = Histogram(
    "batch_tracker_lag_seconds",
    "From the end of a batch to its last item booked.",
    buckets=(5, 15, 60, 300, 900, 3600, 14_400, 86_400),
)
batch_tracker_adopted = Counter(
    "batch_tracker_adopted_total", "Batches that no fact of their creation names, booked as unattributed."
)
batch_tracker_late_creators = Counter(
    "batch_tracker_late_creators_total",
    "Batches whose creator came to be known after items were booked as unattributed.",
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
sink_hourly_hours = Counter("sink_hourly_hours_total", "Hours of usage_hourly that were rebuilt.")
sink_hourly_rebuilt_at = Gauge(
    "sink_hourly_rebuilt_at_seconds", "When usage_hourly was last rebuilt by this process, in Unix time."
)
sink_records_dropped = Counter(
    "sink_records_dropped_total", "Unusable records of topics that keep no dead letters.", ("topic",)
)
