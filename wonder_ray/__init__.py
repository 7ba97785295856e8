"""Durable workflows for Ray."""

__version__ = "0.1.0"
