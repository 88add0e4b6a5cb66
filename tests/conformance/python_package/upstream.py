"""The Python tractorun's own tests and examples, unchanged, with our package, launcher and init.

`upstream.py FOLDER [pytest arguments]` makes a tree in FOLDER as its repository has it: `tests` and `examples` from the
release on PyPI, which is in the environment of the tests, and our package in the place of `tractorun`. Then it runs
pytest there. What it makes itself is what the release lacks, the data of its examples, and names that its test modules
import of its launcher and bootstrap, which are `tractorun` and `tractorun-init` now: the modules must load, also in
jobs. A test that uses one of those names fails, and is left out by name.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
import yt.wrapper as yt
import yt.yson as yson
from tractorun.backend.tractorch import TensorSerializer

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[2] / "runtime/python/tractorun"
RELEASE = "0.62.0"
# As its tests ask for.
MNIST_ROWS = 100
PIXELS = 28 * 28
# Modules of its launcher and bootstrap.
ELSEWHERE = [
    "cli/tractorun_runner.py",
    "private/bind.py",
    "private/docker_auth.py",
    "private/helpers.py",
    "private/process_manager.py",
    "private/sidecar.py",
    "private/stderr_reader.py",
    "private/yt_cluster.py",
]
ANY_NAME = """

class _Nothing(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Elsewhere

    def __call__(cls, *_arguments, **_fields):
        raise AssertionError("this is in the Rust part now: the test is to be left out")


class _Elsewhere(metaclass=_Nothing):
    pass


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return _Elsewhere
"""


# What its tests compare the names of streams with.
STREAMS = """

class OutputType:
    stdout = "stdout"
    stderr = "stderr"
"""

# Its tests of what is a part of the launcher or of init now, and of what these do otherwise on purpose.
LEFT_OUT = {
    # The launcher's own settings, specs and texts; the option after the command is the command's.
    "configuration": "they call the Python launcher's functions",
    "process_manager": "they call the bootstrap's functions",
    "need_restart": "they call the bootstrap's functions",
    "sidecar_run": "they call the bootstrap's functions",
    "yt_cluster": "they call the Python launcher's functions",
    "stderr_reader and lines": "they call the Python launcher's functions",
    "fail_unknown_key": "it calls the Python launcher's function",
    "test_script_debug_info": "it calls the Python launcher's class",
    "docker_image_script": "`--dry-run` after the command is the command's",
    "docker_auth and (run_cli or spec_pickle or invalid_format)": "a dry run shows no secrets and reads none",
    "bind_file_attrs or map_node_spec or map_node_symlinks": "a dry run does not touch the cluster",
    "empty_config and False": "a missing cluster config is said by the launcher and is no Python warning",
    "set_tractorun_description": "it takes the mesh for a class of attrs; cases.py checks what it checks",
    "stderr_reader or restarting_sidecar_logs": "they want the workers' output on stdout, ours is on stderr",
}
# Needs a network, libraries or devices that the tests have not.
EXAMPLES_LEFT_OUT = ("adoptation", "lightning")


def release_folder():
    """Where pip has put the release; it installs its tests and examples as packages of their own."""
    environment = Path(os.environ["UPSTREAM_PYTHON"]).parent.parent
    for found in environment.glob(f"lib/python*/site-packages/tractorun-{RELEASE}.dist-info"):
        return found.parent
    sys.exit(f"tractorun {RELEASE} is not in {environment}: run `scripts/venv`")


def make_tree(tree):
    release = release_folder()
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("tests", "examples"):
        shutil.copytree(release / name, tree / name, ignore=ignored)
    shutil.copytree(PACKAGE, tree / "tractorun", ignore=ignored)
    for name in ELSEWHERE:
        with open(tree / "tractorun" / name, "a", encoding="utf-8") as stream:
            stream.write(ANY_NAME + (STREAMS if name == "private/process_manager.py" else ""))
    data = tree / "tests/data"
    (data / "run_config.yaml").write_text(yaml.safe_dump({"mesh": {"node_count": 2, "process_per_node": 1}}))
    generator = torch.Generator().manual_seed(0)
    serializer = TensorSerializer()
    rows = [
        {
            b"data": serializer.serialize(torch.rand(PIXELS, generator=generator)),
            b"labels": serializer.serialize(torch.tensor(number % 10)),
        }
        for number in range(MNIST_ROWS)
    ]
    (data / "mnist_small.yson").write_bytes(yson.dumps(rows, yson_type="list_fragment", yson_format="text"))
    binds = data / "binds/bind_dir"
    binds.mkdir(parents=True)
    for file in (data / "binds/another_file", binds / "some_file"):
        file.write_text("some content\n")
    # Its tests start clusters in containers by this library; with YT_MODE=external they only import it.
    stand_in = tree / "testcontainers_yt_local"
    stand_in.mkdir()
    (stand_in / "__init__.py").touch()
    (stand_in / "container.py").write_text("YtContainerInstance = YtLocalContainer = None\n")
    # An example imports it, and uses it only with a key.
    (tree / "wandb.py").touch()


def run_tests(tree, arguments):
    left_out = " or ".join(f"({words})" for words in LEFT_OUT)
    options = ["-p", "no:cacheprovider", "--rootdir", str(tree), "-k", f"not ({left_out})", *arguments]
    sys.exit(pytest.main(options))


def run_examples(tree, chosen):
    table = "//tmp/mnist"
    yt.create("table", table, attributes={"schema": [{"name": n, "type": "string"} for n in ("data", "labels")]})
    rows = yson.loads((tree / "tests/data/mnist_small.yson").read_bytes(), yson_type="list_fragment")
    yt.write_table(table, rows)
    for script in sorted((tree / "examples").rglob("*.py")):
        if any(word in str(script.relative_to(tree)) for word in EXAMPLES_LEFT_OUT):
            continue
        if chosen and script.stem not in chosen:
            continue
        print(script.name, flush=True)
        command = [sys.executable, str(script), "--yt-home-dir", f"//tmp/examples/{script.stem}"]
        command += ["--dataset-path", table, "--docker-image", "image:1"]
        subprocess.run(command, check=True)
    print("all examples ran")


def main():
    tree, arguments = Path(sys.argv[1]).absolute(), sys.argv[2:]
    make_tree(tree)
    os.chdir(tree)
    # The package of the tree, here and in all that is started.
    os.environ["PYTHONPATH"] = str(tree)
    sys.path[:] = [str(tree), *(entry for entry in sys.path if entry not in (str(HERE), str(PACKAGE.parent)))]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tractorun"]:
        del sys.modules[name]
    if arguments[:1] == ["--examples"]:
        run_examples(tree, arguments[1:])
    else:
        run_tests(tree, arguments)


main()
