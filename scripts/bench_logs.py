#!/usr/bin/env python3
"""Measures what becomes of workers' lines, on this machine: `scripts/bench_logs.py FOLDER_OF_BINARIES`.

Runs tractorun-init itself, held on one core, against a minicluster, with and without log tables; beside it, in the same
way, the bootstrap that the Python tractorun runs in its jobs (where `scripts/venv` has installed it) and a plain `cat`.
The Python tractorun is stopped after LIMIT seconds, whatever is left: it would take hours. Nothing is written but a
temporary folder.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

from bench_cluster import Cluster
from bench_table import heading, mebibytes, megabytes_a_second, note, percent, row, seconds

LINE = 100
PORTS = 40000
LIMIT = 20
PEER = "Python tractorun"
REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
VENV = REPOSITORY / ".venv/bin/python"

# Writes lines of 100 bytes: TOTAL megabytes at RATE megabytes a second (0: as fast as it can), for at most LIMIT seconds.
# Says how much it wrote in how long, and how often and how long it had to wait because its pipe was full.
WORKER = r"""
import json, os, select, sys, time
total, rate, limit = float(sys.argv[1]) * 1e6, float(sys.argv[2]) * 1e6, float(sys.argv[3])
block = (b"x" * 99 + b"\n") * (650 if not rate else 100)
os.set_blocking(1, False)
written, waits, blocked = 0, 0, 0.0
began = time.monotonic()
while written < total and time.monotonic() - began < limit:
    view = memoryview(block)
    while view and time.monotonic() - began < limit:
        try:
            count = os.write(1, view)
            view, written = view[count:], written + count
        except BlockingIOError:
            before = time.monotonic()
            select.select([], [1], [], max(0, began + limit - before))
            waits += 1
            blocked += time.monotonic() - before
    if rate: time.sleep(max(0, began + written / rate - time.monotonic()))
seconds = time.monotonic() - began
said = os.environ["SAID"] + str(os.getpid())
json.dump({"bytes": written, "seconds": seconds, "waits": waits, "blocked": blocked}, open(said + ".part", "w"))
os.rename(said + ".part", said)
"""

# A line every 10 ms that says when it was written.
TICKER = r"""
import os, sys, time
for _ in range(int(sys.argv[1])):
    os.write(1, b"%d\n" % (time.time() * 1e6)); time.sleep(0.01)
"""


class Ours:
    """How tractorun-init is started, found in /proc, and where its rows are."""

    name = "tractorun"

    def __init__(self, binaries):
        self.command = [binaries / "tractorun-init"]

    def prepare(self, sandbox, proxy, path, workers, command, tables):
        spec = {
            "version": "1.0", "cluster": {"proxy": proxy}, "yt_path": path, "command": command,
            "mesh": {"node_count": 1, "process_per_node": workers, "gpu_per_process": 0},
            "logs": {"mode": "realtime_yt_table" if tables else "default"},
        }
        (sandbox / "spec.json").write_text(json.dumps(spec))
        environment = {
            "TRACTORUN_JOB_SPEC": "spec.json", "YT_OPERATION_ID": "1-1-1-1", "YT_JOB_ID": "2-2-2-2",
            "YT_JOB_COOKIE": "0", "TRACTORUN_ADVERTISE_HOST": "127.0.0.1",
            **{f"YT_PORT_{index}": str(PORTS + index) for index in range(workers + 2)},
        }
        return self.command, environment

    def is_part(self, command_line):
        return b"tractorun-init" in command_line

    def table(self, path, rank):
        return f"{path}/logs/0/workers/{rank}"


class Theirs:
    """The same for the Python tractorun's bootstrap."""

    name = PEER

    def prepare(self, sandbox, proxy, path, workers, command, tables):
        mode = "realtime_yt_table" if tables else "default"
        bootstrap = [VENV, REPOSITORY / "tests/bench/python_bootstrap.py", path, str(workers), mode, *command]
        return bootstrap, {"YT_PROXY": proxy, "YT_TOKEN": "any", "PYTHONDONTWRITEBYTECODE": "1"}

    def is_part(self, command_line):
        return b"python_bootstrap.py" in command_line

    def table(self, path, rank):
        return f"{path}/_raw_logs/workers/{rank}"


class Bench:
    def __init__(self, binaries, folder):
        self.folder, self.cluster = folder, Cluster(binaries, folder)
        self.worker, self.ticker = folder / "worker.py", folder / "ticker.py"
        self.worker.write_text(WORKER)
        self.ticker.write_text(TICKER)

    def writing(self, total, rate=0, limit=600):
        return [sys.executable, str(self.worker), str(total), str(rate), str(limit)]

    def run(self, who, name, workers, command, tables, limit=None):
        """Runs a node; gives its seconds, CPU seconds, largest memory in MiB, and what the workers said.

        With a limit it is ended as soon as all workers have said so, and the rows are those of that moment.
        """
        name = f"{name}-{'ours' if who.name != PEER else 'theirs'}"
        sandbox, path = self.folder / name, f"//tmp/{name}"
        sandbox.mkdir()
        self.cluster.prepare(path)
        command, environment = who.prepare(sandbox, self.cluster.proxy, path, workers, command, tables)
        environment = {"PATH": os.environ["PATH"], "SAID": f"{sandbox}/said.", **environment}
        began = time.monotonic()
        process = subprocess.Popen(
            ["taskset", "-c", "0", *command], cwd=sandbox, env=environment, stderr=subprocess.PIPE, start_new_session=True
        )
        shown = [0, b""]

        def read():
            while chunk := os.read(process.stderr.fileno(), 1 << 20):
                shown[0] += len(chunk)
                shown[1] = (shown[1] + chunk)[-4000:]

        reader = threading.Thread(target=read)
        reader.start()
        cpu, memory, rows = 0, 0, 0

        def said():
            return [json.loads(file.read_text()) for file in sandbox.glob("said.*") if not file.name.endswith("part")]

        while process.poll() is None:
            used = sample(who, process.pid)
            cpu, memory = max(cpu, used[0]), max(memory, used[1])
            if limit and (len(said()) == workers or time.monotonic() - began > limit + 10):
                break
            time.sleep(0.05)
        elapsed = time.monotonic() - began
        if limit:
            tables = [who.table(path, rank) for rank in range(workers)] if tables else []
            if not all(self.cluster.exists(table) for table in tables):
                sys.exit(f"error: {name} has made no tables: {shown[1].decode(errors='replace')}")
            rows = sum(self.cluster.get(f"{table}/@row_count") for table in tables)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        reader.join()
        if process.returncode and not limit:
            sys.exit(f"error: {name} ended with {process.returncode}: {shown[1].decode(errors='replace')}")
        return {"seconds": elapsed, "cpu": cpu, "memory": memory, "workers": said(), "path": path, "rows": rows}

    def delays(self, who, path, lines, limit):
        """Seconds from a line's write to its row, as a reader that asks all the time sees it."""
        known, seen, deadline = 0, [], time.monotonic() + limit
        table = who.table(path, 0)
        while known < lines and time.monotonic() < deadline:
            try:
                count = self.cluster.get(f"{table}/@row_count")
            except OSError:
                count = 0
            now = time.time()
            if count > known:
                seen += [now - int(line["message"]) / 1e6 for line in self.cluster.rows(table, known, count)]
                known = count
            time.sleep(0.002)
        return sorted(seen)

    def ticks(self, who, lines=1000, limit=None):
        seen = []
        path = f"//tmp/ticks-{'ours' if who.name != PEER else 'theirs'}"
        watcher = threading.Thread(target=lambda: seen.extend(self.delays(who, path, lines, limit or 60)))
        watcher.start()
        self.run(who, "ticks", 1, [sys.executable, str(self.ticker), str(lines)], True, limit)
        watcher.join()
        return seen

    def cat(self):
        """What a pipe into plain `cat` takes."""
        cat = subprocess.Popen(["taskset", "-c", "0", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        drain = threading.Thread(target=lambda: [None for _ in iter(lambda: cat.stdout.read(1 << 20), b"")])
        drain.start()
        subprocess.run(self.writing(1000), stdout=cat.stdin, check=True, env={"SAID": f"{self.folder}/cat."})
        cat.stdin.close()
        drain.join()
        return speed({"workers": [json.loads(next(self.folder.glob("cat.*")).read_text())]})


def sample(who, session):
    """CPU seconds and memory in MiB of what of a session is the supervisor: its own share, pages of others not counted."""
    ticks, memory = 0, 0.0
    for process in pathlib.Path("/proc").iterdir():
        try:
            if not process.name.isdigit() or not who.is_part((process / "cmdline").read_bytes()):
                continue
            fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) != session:
                continue
            ticks += int(fields[11]) + int(fields[12])
            rollup = (process / "smaps_rollup").read_text()
            memory += int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1]) / 1024
        except (OSError, StopIteration):
            continue
    return ticks / os.sysconf("SC_CLK_TCK"), memory


def speed(result):
    return result["workers"][0]["bytes"] / 1e6 / result["workers"][0]["seconds"]


def moved(result):
    return sum(worker["bytes"] for worker in result["workers"]) / 1e6


def at(values, hundredths):
    return values[len(values) * hundredths // 100]


def main():
    binaries = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(binaries, pathlib.Path(folder))
        ours, theirs = Ours(binaries), Theirs() if VENV.exists() else None
        heading("Lines of workers: the supervisor on one core, workers and cluster on the other")
        if not theirs:
            note("the Python tractorun is not measured: run `scripts/venv` to have it")
        else:
            note(f"the Python tractorun is stopped after {LIMIT} s, ours has all it was given")
        measure(bench, ours, theirs)
        bench.cluster.stop()


def measure(bench, ours, theirs):
    def limited(name, workers, rate, tables):
        return bench.run(theirs, name, workers, bench.writing(1000, rate, LIMIT), tables, LIMIT) if theirs else None

    def put(what, figure, ours, theirs, of, goal=""):
        row(what, figure(of(ours)), goal, theirs and figure(of(theirs)), PEER)

    what = "a worker's writes to stderr"
    mine, other = bench.run(ours, "stderr", 1, bench.writing(1000), False), limited("stderr", 1, 0, False)
    row(what, megabytes_a_second(speed(mine)), "150 MB/s", megabytes_a_second(bench.cat()), "plain cat")
    put(what, megabytes_a_second, mine, other, speed, "150 MB/s")

    mine, other = bench.run(ours, "tables", 1, bench.writing(400), True), limited("tables", 1, 0, True)
    lines = bench.cluster.get(f"{ours.table(mine['path'], 0)}/@row_count")
    assert lines * LINE == mine["workers"][0]["bytes"], "lines are missing"
    mine["rows"] = lines
    put("to stderr and to committed rows", megabytes_a_second, mine, other,
        lambda it: it["rows"] * LINE / 1e6 / it["seconds"], "100 MB/s")

    mine, other = bench.run(ours, "eight", 8, bench.writing(20, 1.25), True), limited("eight", 8, 1.25, True)
    what = "8 workers, 10 MB/s together, log tables"
    put(f"{what}: largest memory", mebibytes, mine, other, lambda it: it["memory"], "24 MiB")
    put(f"{what}: CPU time for a MB", seconds, mine, other, lambda it: it["cpu"] / moved(it))
    put(f"{what}: taken from them", megabytes_a_second, mine, other,
        lambda it: moved(it) / max(worker["seconds"] for worker in it["workers"]))

    mine, other = bench.run(ours, "blocked", 1, bench.writing(500, 50), True), limited("blocked", 1, 50, True)
    put("a worker at 50 MB/s: how much of the time its pipe was full", percent, mine, other,
        lambda it: 100 * it["workers"][0]["blocked"] / it["workers"][0]["seconds"], "never")

    what = "a line's write to its row, 100 lines a second"
    mine, other = bench.ticks(ours), bench.ticks(theirs, limit=LIMIT) if theirs else None
    for name, hundredths in (("p50", 50), ("p99", 99)):
        if theirs and not other:
            row(f"{what}: {name}", seconds(at(mine, hundredths)), words=f"none within {LIMIT} s, {PEER}")
        else:
            put(f"{what}: {name}", seconds, mine, other, lambda it: at(it, hundredths))
    if other is not None and len(other) < 1000:
        note(f"of 1000 lines {len(other)} became rows of the Python tractorun in {LIMIT} s")


if __name__ == "__main__":
    main()
