"""What an edge has seen and Kafka has not acknowledged yet, on local disk."""
