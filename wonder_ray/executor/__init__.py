"""Runs user code: registry and runner, and the Ray task around them."""
