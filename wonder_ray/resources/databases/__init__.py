"""Where a registry can live: one SQLite file, or a PostgreSQL database."""
