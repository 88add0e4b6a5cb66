"""Calls the `tractorun` binary: finds it, hands it settings as a file, hands on signals, and takes its answer.

Settings never go on the command line, and the token goes in the environment only.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Union

import yt.wrapper as yt

from tractorun.exception import RunFailedError, TractorunBootstrapError, TractorunConfigurationError
from tractorun.private.constants import RUN_INFO_FILE_ENV_VAR
from tractorun.run_info import RunInfo

NAME = "tractorun"

# Names the binary: another one than that of this installation or of PATH.
BINARY_ENV_VAR = "TRACTORUN"

# Milliseconds.
_HASTY_TIMEOUT_MS = 2000

# Exit code of the launcher for settings that cannot be used.
_USAGE = 2

# Whoever stops this process stops the launcher, and that one its operation.
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def find_binary(environment: Mapping[str, str], scripts: Optional[Path] = None) -> str:
    """The launcher: by `TRACTORUN`, else where pip has put that of our wheel, else along `PATH`."""
    named = environment.get(BINARY_ENV_VAR)
    if named:
        if not os.path.isfile(named) or not os.access(named, os.X_OK):
            raise TractorunBootstrapError(f"{BINARY_ENV_VAR} names `{named}`, which is not a program")
        return os.path.abspath(named)
    # An interpreter that is called by its path has not its own scripts on PATH.
    installed = (Path(sysconfig.get_path("scripts")) if scripts is None else scripts) / NAME
    if os.access(installed, os.X_OK) and not _is_script(str(installed)):
        return str(installed)
    passed_over = ""
    for folder in environment.get("PATH", "").split(os.pathsep):
        path = shutil.which(NAME, path=folder) if folder else None
        if path is None:
            continue
        if not _is_script(path):
            return os.path.abspath(path)
        passed_over = f"; `{path}` is that of the Python tractorun"
    raise TractorunBootstrapError(
        f"cannot find the program `{NAME}`: it is not on PATH{passed_over}\n"
        f"hint: put it there, or set {BINARY_ENV_VAR} to its path"
    )


def _is_script(path: str) -> bool:
    with open(path, "rb") as program:
        return program.read(2) == b"#!"


def run(settings: Dict[str, Any], yt_client: Optional[yt.YtClient], *, dry_run: bool) -> RunInfo:
    """Runs the launcher with these settings to its end."""
    environment = dict(os.environ)
    if yt_client is not None:
        environment.update(_cluster_of(yt_client))
    with tempfile.TemporaryDirectory(prefix="tractorun-") as folder:
        config, info = Path(folder) / "run.yaml", Path(folder) / "run-info.json"
        # JSON is YAML.
        config.write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")
        environment[RUN_INFO_FILE_ENV_VAR] = str(info)
        command = [find_binary(environment), "--run-config-path", str(config)]
        if dry_run:
            return _read_info(_dry_run([*command, "--dry-run"], environment))
        # With `no_wait` the launcher prints what the file says too.
        stdout = subprocess.DEVNULL if settings.get("no_wait") else None
        code = _run_to_end(command, environment, stdout)
        run_info = _read_info(info.read_text(encoding="utf-8")) if info.exists() else None
    if code == 0 and run_info is not None:
        return run_info
    if code == 0:
        return RunInfo(operation_spec={}, operation_id=None)
    if code == _USAGE and run_info is None:
        raise TractorunConfigurationError("the launcher refused the run's parameters: see what it wrote")
    raise _failure(code, run_info, yt_client)


def exec_binary(arguments: List[str]) -> None:
    """Becomes the launcher."""
    binary = find_binary(os.environ)
    os.execv(binary, [NAME, *arguments])


def _cluster_of(client: yt.YtClient) -> Dict[str, str]:
    variables = {"YT_PROXY": str(client.config["proxy"]["url"])}
    token = yt.http_helpers.get_token(client=client)
    if token:
        variables["YT_TOKEN"] = str(token)
    return variables


def _dry_run(command: List[str], environment: Mapping[str, str]) -> str:
    finished = subprocess.run(
        command, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, check=False, encoding="utf-8"
    )
    if finished.returncode == 0:
        return finished.stdout
    raise TractorunConfigurationError(finished.stderr.strip() or f"the launcher ended with {finished.returncode}")


def _read_info(text: str) -> RunInfo:
    info = json.loads(text)["run_info"]
    return RunInfo(operation_spec=info["operation_spec"], operation_id=info["operation_id"])


def _run_to_end(command: List[str], environment: Mapping[str, str], stdout: Optional[int]) -> int:
    # In a session of its own: Ctrl-C in a terminal would reach it a second time, by way of us.
    process = subprocess.Popen(
        command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=stdout, start_new_session=True
    )
    with _handing_on(process) as received:
        code = process.wait()
    if signal.SIGINT in received:
        raise KeyboardInterrupt
    for number in received:
        # As it would have been without us.
        os.kill(os.getpid(), number)
    return code if code >= 0 else 128 - code


_Handler = Union[Callable[[int, Optional[FrameType]], Any], int, None]


@contextmanager
def _handing_on(process: subprocess.Popen[Any]) -> Iterator[List[int]]:
    """Hands signals on to the launcher, which ends in order; says which came."""
    received: List[int] = []
    # Only the main thread can have handlers; in another one nobody interrupts us either.
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def hand_on(number: int, _frame: Optional[FrameType]) -> None:
        received.append(number)
        process.send_signal(number)

    before: Dict[int, _Handler] = {}
    for stop in _STOP_SIGNALS:
        if signal.getsignal(stop) is not signal.SIG_IGN:
            before[stop] = signal.signal(stop, hand_on)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _failure(code: int, info: Optional[RunInfo], client: Optional[yt.YtClient]) -> RunFailedError:
    operation_id = None if info is None else info.operation_id
    state, error = "failed", None
    if operation_id is not None:
        try:
            operation = _hasty(client).get_operation(operation_id, attributes=["state", "result"])
            state, error = str(operation["state"]), operation.get("result", {}).get("error")
        except Exception:  # noqa: BLE001 - the failure itself is worth more than its details
            pass
    return RunFailedError(operation_id=operation_id, state=state, exit_code=code, error=error)


def _hasty(client: Optional[yt.YtClient]) -> yt.YtClient:
    """A client that asks once: whoever waits for the news of a failure has waited long enough."""
    config = yt.default_config.get_config_from_env() if client is None else copy.deepcopy(client.config)
    for retries in (config["proxy"]["retries"], config["get_operation_retries"]):
        retries["count"] = 1
    config["proxy"]["connect_timeout"] = _HASTY_TIMEOUT_MS
    return yt.YtClient(config=config)
