"""`python -m wonder_ray.cli`."""

from wonder_ray.cli import main

main()
