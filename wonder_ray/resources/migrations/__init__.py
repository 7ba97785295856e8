"""The registry's tables as they have changed from release to release: Alembic runs what is in `versions`.

A released revision is never edited: files that it has changed exist.
"""
