"""The log service: rotating store, stdlib handler and queries."""
