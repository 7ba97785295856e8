"""The `wonder` command."""
