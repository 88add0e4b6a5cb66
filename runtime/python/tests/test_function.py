"""Functions on their way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tractorun.backend.generic import GenericBackend
from tractorun.exception import TractorunConfigurationError, TractorunVersionMismatchError
from tractorun.private import function

COUNT = 3
BASE_CLASS = object


def outer(number: int) -> Any:
    def inner(more: int) -> int:
        class Adder(BASE_CLASS):
            count = COUNT

            def add(self) -> Any:
                return self.count + number + more

        return int(Adder().add())

    return inner


def test_names_in_the_bodies_of_classes_are_found() -> None:
    assert set(function.referenced_globals(outer)) >= {"BASE_CLASS", "COUNT"}
    assert function.referenced_globals(len) == {}


def test_a_function_comes_out_as_it_went_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "packed"
    function.pack_function(outer(4), GenericBackend(), folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    unpacked, backend = function.unpack_function(folder)
    assert unpacked(5) == 12
    assert isinstance(backend, GenericBackend)
    # This module is the user's own, and nobody's that is installed.
    assert (folder / "modules" / f"{__name__.replace('.', '/')}.py").exists()
    assert not (folder / "modules/pytest").exists()
    assert not (folder / "modules/tractorun").exists()


def test_installed_modules_come_along_when_wanted(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    function.pack_function(outer(4), GenericBackend(), folder, with_installed=True)
    assert (folder / "modules/pytest/__init__.py").exists()
    assert not (folder / "modules/json").exists()


def test_what_cannot_travel_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    running = (number for number in range(3))
    with pytest.raises(TractorunConfigurationError, match="hint: open files"):
        function.pack_function(lambda _: next(running), GenericBackend(), tmp_path / "packed")


def test_another_python_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    function.pack_function(outer(4), GenericBackend(), folder)
    about = json.loads((folder / "function.json").read_text())
    (folder / "function.json").write_text(json.dumps({**about, "python": "2.7"}))
    with pytest.raises(TractorunVersionMismatchError, match="pickled by Python 2.7, and this is Python 3"):
        function.unpack_function(folder)


PACK = """
import sys
from pathlib import Path
sys.path.insert(0, {package!r})
from tractorun.backend.generic import GenericBackend
from tractorun.private import function
import helper

TOTAL = [0]

def add(number):
    TOTAL[0] += number + helper.BASE

def body(number):
    add(number)
    add(number)
    print(TOTAL[0], sys.argv[1:])

if __name__ == "__main__":
    function.pack_function(body, GenericBackend(), Path("packed"))
"""
CALL = """
import sys
from pathlib import Path
sys.path.insert(0, {package!r})
from tractorun.private import function
called, _ = function.unpack_function(Path("packed"))
called(1)
"""


@pytest.mark.parametrize("kind", ["script", "stdin"])
def test_state_of_a_script_is_one(tmp_path: Path, kind: str) -> None:
    package = str(Path(function.__file__).parents[2])
    laptop, worker = tmp_path / "laptop", tmp_path / "worker"
    laptop.mkdir(), worker.mkdir()
    (laptop / "helper.py").write_text("BASE = 100\n")
    script = PACK.format(package=package)
    (laptop / "train.py").write_text(script)
    command = [sys.executable, "train.py" if kind == "script" else "-", "--rate", "2"]
    subprocess.run(command, cwd=laptop, input=script, text=True, check=True)
    (laptop / "packed").rename(worker / "packed")
    (laptop / "helper.py").unlink()
    call = [sys.executable, "-c", CALL.format(package=package)]
    output = subprocess.run(call, cwd=worker, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert output == "202 ['--rate', '2']\n"
