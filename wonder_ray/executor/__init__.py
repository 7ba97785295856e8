"""Executors: stateless Ray tasks that run user actions in batches. They decide nothing and emit no events."""
