"""Stands in for ClickHouse on one machine: chDB, the real engine, behind ClickHouse's HTTP interface."""
