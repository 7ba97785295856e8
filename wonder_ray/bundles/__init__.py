"""Code bundles: the source of a workflow's actions, content-addressed, so that a run keeps its code without its driver."""
