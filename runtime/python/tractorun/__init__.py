"""The Python side of tractorun.

In a job: `tractorun.run.prepare_and_get_toolbox` gives a worker its toolbox. On a laptop: `tractorun.run.run` sends a
function to a cluster. Who is who in a job is decided by `tractorun-init` before Python starts; nothing here talks to
other workers.
"""

__version__: str = "0.1.0"
