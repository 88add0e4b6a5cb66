"""A function on its way from a laptop to the workers.

```text
laptop:  pack_function ──▶ folder: function.pickle, function.json, main/, modules/ ──▶ bind
worker:  python3 -m tractorun.private.run_function <folder>
```

The function is pickled with what it closes over. The script that it stands in travels as a file and is loaded in the
worker as `multiprocessing` loads it in its children, so that what stands under `if __name__ == "__main__"` does not run;
nor does anything from a call of `tractorun.run.run` on. A notebook has no such file: there the function takes along what
it refers to. Modules of the user's own that the laptop has imported travel as files too. What is installed, the image
must have.
"""

from __future__ import annotations

import dis
import json
import shutil
import site
import sys
import sysconfig
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Callable, Dict, Iterable, List, Optional, Set, Tuple

from tractorun.base_backend import BackendBase
from tractorun.exception import TractorunConfigurationError, TractorunVersionMismatchError
from tractorun.private import main

# Where the folder appears in the sandbox.
DESTINATION = "tractorun_function"

_PICKLE, _ABOUT, _MAIN, _MODULES = "function.pickle", "function.json", "main", "modules"

# Protocol 4 is that of all Pythons that this package knows.
_PICKLE_PROTOCOL = 4

# Brought by other means: this package as a library, the client by the image.
_NEVER = ("tractorun", "yt")


def pack_function(
    function: Callable[..., Any],
    backend: BackendBase,
    folder: Path,
    *,
    libraries: Iterable[str] = (),
    with_installed: bool = False,
) -> None:
    """Writes what a worker needs to call the function. `libraries` come by themselves."""
    folder.mkdir()
    about: Dict[str, Any] = {"python": _python_version(), "arguments": sys.argv}
    skipped = {*_NEVER, *libraries}
    main_script = main.script(sys.modules["__main__"])
    try:
        content = _pickle((function, backend), main_script)
    except Exception as error:
        raise TractorunConfigurationError(
            f"cannot pickle the function `{getattr(function, '__qualname__', function)}`: {error}\n"
            "hint: open files, connections and clients inside the function, not before it"
        ) from error
    (folder / _PICKLE).write_bytes(content)
    # Whoever stands behind a function of a module, such as pytest, is not looked at.
    if main_script is not None and b"__main__" in content:
        (folder / _MAIN).mkdir()
        shutil.copyfile(main_script.path, folder / _MAIN / main_script.path.name)
        about["main"] = {"name": main_script.path.name, "package": main_script.package}
    (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
    (folder / _MODULES).mkdir()
    for name, source in _own_modules(list(sys.modules.items()), skipped, with_installed=with_installed):
        destination = folder / _MODULES / _module_file(name, source)
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, destination)


def unpack_function(folder: Path) -> Tuple[Callable[..., Any], BackendBase]:
    """Reads it again, in the worker."""
    about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    if about["python"] != _python_version():
        raise TractorunVersionMismatchError(
            f"the function was pickled by Python {about['python']}, and this is Python {_python_version()}\n"
            "hint: use an image with the Python of your laptop, or run a script instead of a function"
        )
    sys.argv[:] = about["arguments"]
    # Before what is installed, as the user's own folder was.
    sys.path.insert(0, str((folder / _MODULES).resolve()))
    if "main" in about:
        path = (folder / _MAIN / about["main"]["name"]).resolve()
        main.load(main.Script(path, about["main"]["package"]))
    dill = _dill()
    # It may have been imported before the script was loaded.
    dill._dill._main_module = sys.modules["__main__"]
    function, backend = dill.loads((folder / _PICKLE).read_bytes())
    return function, backend


def _pickle(value: object, main_script: Optional[main.Script]) -> bytes:
    dill = _dill()
    if main_script is not None:
        # What the script defines, the worker has from the script.
        content: bytes = dill.dumps(value, protocol=_PICKLE_PROTOCOL, byref=True, recurse=False)
        return content
    known = dill.detect.globalvars
    dill.detect.globalvars = referenced_globals
    try:
        content = dill.dumps(value, protocol=_PICKLE_PROTOCOL, byref=False, recurse=True)
        return content
    finally:
        dill.detect.globalvars = known


def referenced_globals(function: Any, recurse: bool = True, builtin: bool = False) -> Dict[str, Any]:
    """Globals that a function names, in its own code and in that of functions and classes inside it.

    dill's own search does not see names that the body of a class looks up.
    """
    function = getattr(function, "__func__", function)
    code, known = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    return {name: known[name] for name in _named_in(code) if name in known} if isinstance(code, CodeType) else {}


def _named_in(code: CodeType) -> Set[str]:
    names = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname.startswith("LOAD_NAME") or "GLOBAL" in instruction.opname
    }
    return names.union(*(_named_in(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def _dill() -> Any:
    # Part of the YT client.
    from yt.packages import dill

    return dill


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _own_modules(
    modules: Iterable[Tuple[str, Optional[ModuleType]]], skipped: Iterable[str], *, with_installed: bool
) -> List[Tuple[str, Path]]:
    """Files of modules that are neither Python's nor, unless wanted, installed."""
    skipped = set(skipped)
    standard, installed = _library_folders()
    found: List[Tuple[str, Path]] = []
    for name, module in modules:
        file = getattr(module, "__file__", None)
        if name in ("__main__", "__mp_main__") or not isinstance(file, str) or name.partition(".")[0] in skipped:
            continue
        path = Path(file)
        # Inside an archive there is no file.
        if not path.is_file():
            continue
        if _is_below(path, installed):
            if not with_installed:
                continue
        elif _is_below(path, standard):
            continue
        found.append((name, path))
    return found


def _library_folders() -> Tuple[List[Path], List[Path]]:
    """Folders of Python's own modules, and of installed ones."""
    paths = sysconfig.get_paths()
    installed = {paths["purelib"], paths["platlib"], site.getusersitepackages(), *site.getsitepackages()}
    # Debian's and virtual environments with the system's packages have more of them on the path.
    installed.update(entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages"))
    standard = {paths["stdlib"], paths["platstdlib"]}
    return [Path(path) for path in standard], [Path(path) for path in installed]


def _is_below(path: Path, folders: Iterable[Path]) -> bool:
    candidates = {path, path.resolve()}
    return any(folder in candidate.parents for folder in folders for candidate in candidates)


def _stem(path: Path) -> str:
    """File name without what makes it a module."""
    return path.name.partition(".")[0]


def _module_file(name: str, source: Path) -> Path:
    """Where `import` looks for the module below a folder of the path."""
    parts = name.split(".")
    if _stem(source) == "__init__":
        return Path(*parts, source.name)
    # An extension module's name says for which Python it is.
    return Path(*parts[:-1], parts[-1] + source.name[len(_stem(source)) :])
