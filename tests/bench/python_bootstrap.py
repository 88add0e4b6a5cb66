"""Starts the bootstrap of the Python tractorun, unchanged, as its job does: `YT_PATH WORKERS LOG_MODE COMMAND...`.

Only two things differ from its job: files of the workers lie in the current folder instead of `/slot/sandbox`, and the
log tables have paths that are known before: `_raw_logs/workers/<rank>`.
"""

import base64
import os
import pathlib
import pickle
import sys

from tractorun.mesh import Mesh
from tractorun.operation_log import OperationLogMode
from tractorun.private.bootstrapper import LibVersions, bootstrap
from tractorun.private.training_dir import TrainingDir
from tractorun.private.yt_cluster import TractorunClusterConfig
from yt import wrapper as yt


def main():
    yt_path, workers, log_mode, *command = sys.argv[1:]
    os.environ.update({"YT_OPERATION_ID": "1-2-3-4", "YT_JOB_ID": "a-b-c-d", "YT_JOB_COOKIE": "0"})
    # Its launcher sets this for every job.
    os.environ["YT_ALLOW_HTTP_REQUESTS_TO_YT_FROM_JOB"] = "1"
    for index in range(int(workers)):
        os.environ[f"YT_PORT_{index}"] = str(20_000 + index)
    training_dir = TrainingDir.create(yt_path)
    training_dir.worker_logs_path = f"{yt_path}/_raw_logs/workers"
    training_dir.sidecar_logs_path = f"{yt_path}/_raw_logs/sidecars"
    client = yt.YtClient(config=yt.default_config.get_config_from_env())
    client.config["token"] = os.environ["YT_TOKEN"]
    bootstrap(
        mesh=Mesh(node_count=1, process_per_node=int(workers), gpu_per_process=0),
        training_dir=training_dir,
        yt_client_config=base64.b64encode(pickle.dumps(yt.config.get_config(client))).decode(),
        command=command,
        sidecars=[],
        env=[],
        tensorproxy=None,
        lib_versions=LibVersions.create(),
        cluster_config=TractorunClusterConfig(cypress_link_template=None, job_stderr_link_template=None),
        operation_log_mode=OperationLogMode(log_mode),
        sandbox_path=pathlib.Path.cwd(),
    )


if __name__ == "__main__":
    main()
