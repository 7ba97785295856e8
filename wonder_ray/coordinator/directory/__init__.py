"""Which coordinators live in this cluster, and that those live that should."""
