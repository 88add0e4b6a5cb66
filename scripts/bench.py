#!/usr/bin/env python3
"""Measures what README and ARCHITECTURE.md state, on this machine: `scripts/bench.py FOLDER_OF_BINARIES`.

Prints the binaries' sizes, the memory of tractorun-init while it supervises 8 workers, and the time from its start
to the moment all 8 workers run. Nothing is written but a temporary folder.
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

WORKERS = 8
ROUNDS = 5

# Stands in for the init that the launcher starts: notes the moment and becomes the real one.
STAMP = """#!/bin/sh
date +%s.%N > "{folder}/start"
exec "{folder}/real/tractorun-init" "$@"
"""

WORKER = """date +%s.%N > "$BENCH/begun.$RANK.part"; echo $PPID > "$BENCH/init"; mv "$BENCH/begun.$RANK.part" "$BENCH/begun.$RANK"
read line < "$BENCH/gate.$RANK" """


def wait_for(paths):
    deadline = time.monotonic() + 60
    while not all(path.exists() for path in paths):
        if time.monotonic() > deadline:
            sys.exit(f"error: not there within a minute: {[str(path) for path in paths if not path.exists()]}")
        time.sleep(0.005)


def memory(pid):
    """Kilobytes by name, as the kernel counts them."""
    values = {}
    for name in ("smaps_rollup", "status"):
        for line in pathlib.Path(f"/proc/{pid}/{name}").read_text().splitlines():
            key, _, rest = line.partition(":")
            if rest.strip().endswith("kB"):
                values[key] = int(rest.split()[0])
    return {key: values[key] for key in ("Pss", "VmRSS", "VmHWM")}


def one_round(folder):
    for path in folder.glob("begun.*"):
        path.unlink()
    gates = [folder / f"gate.{rank}" for rank in range(WORKERS)]
    for gate in gates:
        if not gate.exists():
            os.mkfifo(gate)
    command = [folder / "tractorun", "--local", "--mesh.process-per-node", str(WORKERS), "/bin/bash", "-c", WORKER]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "BENCH": str(folder)}
    run = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    begun = [folder / f"begun.{rank}" for rank in range(WORKERS)]
    try:
        wait_for(begun)
        used = memory(int((folder / "init").read_text()))
        for gate in gates:
            gate.write_text("go\n")
        output, _ = run.communicate(timeout=60)
    finally:
        run.kill()
    if run.returncode != 0:
        sys.exit(f"error: the run ended with {run.returncode}:\n{output.decode()}")
    start = float((folder / "start").read_text())
    return used, max(float(path.read_text()) for path in begun) - start


def main():
    binaries = pathlib.Path(sys.argv[1]).resolve()
    for name in ("tractorun-init", "tractorun", "tractorun-minicluster"):
        size = (binaries / name).stat().st_size
        print(f"size of {name}: {size / 2**20:.2f} MiB ({size} bytes)")

    with tempfile.TemporaryDirectory(prefix="tractorun-bench-") as name:
        folder = pathlib.Path(name)
        (folder / "real").mkdir()
        for binary in ("tractorun", "tractorun-minicluster"):
            shutil.copy(binaries / binary, folder / binary)
        shutil.copy(binaries / "tractorun-init", folder / "real/tractorun-init")
        (folder / "tractorun-init").write_text(STAMP.format(folder=folder))
        (folder / "tractorun-init").chmod(0o755)
        rounds = [one_round(folder) for _ in range(ROUNDS)]

    for key, what in (("Pss", "PSS"), ("VmRSS", "RSS"), ("VmHWM", "highest RSS")):
        value = statistics.median(used[key] for used, _ in rounds)
        print(f"{what} of tractorun-init with {WORKERS} workers: {value / 1024:.1f} MiB (median of {ROUNDS})")
    times = sorted(seconds for _, seconds in rounds)
    print(
        f"start of tractorun-init to {WORKERS} running workers: median {statistics.median(times):.3f} s, "
        f"{times[0]:.3f} to {times[-1]:.3f} s ({ROUNDS} rounds, one node, minicluster on the same machine)"
    )


main()
