"""The storage of one run: its records, its SQLite file, its lock, and where everything lies in the storage folder.

Nothing is imported here, so that reading a record costs no SQLite: import the module you need.
"""
