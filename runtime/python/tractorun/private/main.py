"""The script that a pickled function stands in: what it is on the laptop, and how a worker becomes it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Optional

# `multiprocessing` calls the parent's script so in its children: such children of a worker find it again.
_NAME = "__mp_main__"

# Whether a script is being loaded; there is one for each process.
_loading = False


@dataclass
class Script:
    """A script and, if it was started with `-m`, its package."""

    path: Path
    package: Optional[str]


class StopLoading(BaseException):
    """Ends the loading of a script that calls `run` without asking whether it is the main program."""


def script(module: ModuleType) -> Optional[Script]:
    """The file of the main program; a notebook and an interactive session have none."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not Path(file).is_file():
        return None
    return Script(Path(file), getattr(module, "__package__", None))


def load(main_script: Script) -> None:
    """Makes the script this process's main program without running it as such."""
    global _loading
    module = ModuleType(_NAME)
    module.__file__ = str(main_script.path)
    module.__package__ = main_script.package
    sys.modules["__main__"] = sys.modules[_NAME] = module
    code = compile(main_script.path.read_bytes(), module.__file__, "exec")
    _loading = True
    try:
        exec(code, module.__dict__)  # noqa: S102 - it is the user's own program
    except StopLoading:
        pass
    finally:
        _loading = False


def stop_loading() -> None:
    """Called by whatever starts a run: while a script is loaded, it is not to do what it does as the main program."""
    if _loading:
        raise StopLoading
