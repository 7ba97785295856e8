"""Which runs and definitions exist: the durable registry behind every start.

`records` and `schema` import no SQL; `store`, `service` and `reader` do; only `actor` imports Ray.
"""
