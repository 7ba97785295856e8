"""The run's own SQLite file: opening, migrations, rows, outbox."""
