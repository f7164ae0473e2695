"""Events in, ClickHouse rows out."""
