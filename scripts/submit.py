#!/usr/bin/env python
"""Sends a workflow file to a cluster through the Ray Job API; the same as `wonder submit`, for CI and schedulers.

    .venv/bin/python scripts/submit.py flow.py --address http://HEAD:8265 --input '{"n": 3}' --json

Ends as the run ends: 0 completed, 1 ended otherwise, 2 could not be started.
"""

from __future__ import annotations

import sys

from wonder_ray.cli.app import app

if __name__ == "__main__":
    app(["submit", *sys.argv[1:]], prog_name="wonder")
