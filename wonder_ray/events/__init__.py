"""The event service: commit log, Parquet datasets, retention and queries."""
