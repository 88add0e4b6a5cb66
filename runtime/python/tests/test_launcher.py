"""Finding and calling the launcher, with programs in its place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yt.wrapper as yt
from tractorun.exception import RunFailedError, TractorunBootstrapError, TractorunConfigurationError
from tractorun.private import launcher

# As `/bin/true` is: no script.
PROGRAM = b"\x7fELF"


def program(path: Path, content: bytes = PROGRAM) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)
    return str(path)


def test_the_variable_comes_before_the_installation_before_the_path(tmp_path: Path) -> None:
    on_path = program(tmp_path / "path/tractorun")
    environment = {"PATH": f"{tmp_path}/nothing:{tmp_path}/path"}
    assert launcher.find_binary(environment, scripts=tmp_path / "bin") == on_path
    program(tmp_path / "bin/tractorun", b"#!/usr/bin/python3\n")
    assert launcher.find_binary(environment, scripts=tmp_path / "bin") == on_path
    installed = program(tmp_path / "bin/tractorun")
    assert launcher.find_binary(environment, scripts=tmp_path / "bin") == installed
    environment["TRACTORUN"] = program(tmp_path / "named")
    assert launcher.find_binary(environment, scripts=tmp_path / "bin") == environment["TRACTORUN"]


def test_the_launcher_of_the_python_tractorun_is_passed_over(tmp_path: Path) -> None:
    old = program(tmp_path / "old/tractorun", b"#!/usr/bin/python3\n")
    new = program(tmp_path / "new/tractorun")
    path = f"{tmp_path}/old:{tmp_path}/new"
    assert launcher.find_binary({"PATH": path}, scripts=tmp_path) == new
    with pytest.raises(TractorunBootstrapError) as error:
        launcher.find_binary({"PATH": f"{tmp_path}/old"}, scripts=tmp_path)
    assert str(error.value) == (
        f"cannot find the program `tractorun`: it is not on PATH; `{old}` is that of the Python tractorun\n"
        "hint: put it there, or set TRACTORUN to its path"
    )


def test_a_variable_that_names_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TractorunBootstrapError, match="TRACTORUN names `/no/such`, which is not a program"):
        launcher.find_binary({"TRACTORUN": "/no/such"}, scripts=tmp_path)


# Writes down what it was given, and answers as it is told to.
STAND_IN = """#!/bin/bash
printf '%s\\n' "$@" > "$SEEN/arguments"
cp "$2" "$SEEN/settings"
echo "$YT_PROXY $YT_TOKEN" > "$SEEN/cluster"
[ -z "$ANSWER" ] || echo "$ANSWER" > "$TRACTORUN_RUN_INFO_FILE"
exit "$CODE"
"""
ANSWER = json.dumps({"run_info": {"operation_spec": {"title": "t"}, "operation_id": "1-2-3-4"}})


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "TRACTORUN": program(tmp_path / "stand-in", STAND_IN.encode()),
        "SEEN": str(tmp_path),
        "ANSWER": ANSWER,
        "CODE": "0",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_settings_travel_in_a_file_and_the_token_in_the_environment(seen: Path) -> None:
    client = yt.YtClient(proxy="http://127.0.0.1:1", token="t0ken")
    info = launcher.run({"command": ["a b"], "title": "ц"}, client, dry_run=False)
    assert (info.operation_id, info.operation_spec) == ("1-2-3-4", {"title": "t"})
    assert json.loads((seen / "settings").read_text()) == {"command": ["a b"], "title": "ц"}
    assert "t0ken" not in (seen / "arguments").read_text() + (seen / "settings").read_text()
    assert (seen / "cluster").read_text() == "http://127.0.0.1:1 t0ken\n"
    # Nothing stays behind.
    (_, path) = (seen / "arguments").read_text().splitlines()
    assert not os.path.exists(path)


def test_refused_settings_are_the_callers_mistake(seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE", "2")
    monkeypatch.setenv("ANSWER", "")
    with pytest.raises(TractorunConfigurationError):
        launcher.run({}, None, dry_run=False)


def test_a_failure_before_the_operation_has_no_id(seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE", "1")
    monkeypatch.setenv("ANSWER", "")
    with pytest.raises(RunFailedError) as error:
        launcher.run({}, None, dry_run=False)
    assert (error.value.operation_id, error.value.exit_code, error.value.state) == (None, 1, "failed")


def test_a_worker_that_ended_with_2_is_a_failed_run(seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE", "2")
    # A cluster that cannot be asked for more.
    monkeypatch.setenv("YT_PROXY", "http://127.0.0.1:1")
    client = yt.YtClient(proxy="http://127.0.0.1:1")
    with pytest.raises(RunFailedError) as error:
        launcher.run({}, client, dry_run=False)
    assert (error.value.operation_id, error.value.exit_code) == ("1-2-3-4", 2)
