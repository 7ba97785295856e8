"""Sending a workflow file to a cluster through the Ray Job API: one job carries out one run, and ends as the run ends.

The job's entrypoint is `wonder run` on the cluster, so that a run that was submitted is like any other. Its driver may be lost:
the run goes on.
"""

from wonder_ray.jobs.job import ARGUMENT_BYTES_MAX, HEAD_RESOURCE, Job, job_of, read_requirements
from wonder_ray.jobs.sending import JobEnd, Jobs

__all__ = ["ARGUMENT_BYTES_MAX", "HEAD_RESOURCE", "Job", "JobEnd", "Jobs", "job_of", "read_requirements"]
