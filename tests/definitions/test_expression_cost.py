"""Expressions over much data: what they may cost, and that they wear nothing out."""

from __future__ import annotations

import subprocess
import sys

NULLS = """
import sys
from wonder_ray.definitions.expressions import compile_expression
rows = compile_expression("item.filter(row, row.a == null)")
print(sum(len(rows.evaluate({"item": [{"a": None, "b": None}] * 1000})) for _ in range(200)))
"""


def test_nulls_do_not_wear_out_the_interpreter() -> None:
    done = subprocess.run([sys.executable, "-c", NULLS], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "200000"), done.stderr
