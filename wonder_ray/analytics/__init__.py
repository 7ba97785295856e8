"""SQL over the event history of a storage folder: plain Parquet, read by DuckDB where it lies. No Ray, no service.

`Events` is what `client.events` and `wonder.open_storage(...).events` are. The views and the ready reports are the `.sql` files
in `sql/`.
"""
