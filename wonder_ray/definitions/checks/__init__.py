"""The rules a definition must keep, one file per subject; `wonder_ray.definitions.validation` runs them all."""
