"""What the builder consists of: its methods by the kind of node they add."""
