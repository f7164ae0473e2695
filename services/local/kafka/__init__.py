"""The local Kafka: a single-node broker for one machine, spoken to by ordinary clients."""
