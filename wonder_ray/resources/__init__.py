"""The registry of runs, definitions, workspaces and projects."""
