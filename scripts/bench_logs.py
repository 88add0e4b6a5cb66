#!/usr/bin/env python3
"""Measures what becomes of workers' lines, on this machine: `scripts/bench_logs.py FOLDER_OF_BINARIES`.

Runs tractorun-init itself, held on one core, against a minicluster, with and without log tables, and a plain `cat` in its
place. Nothing is written but a temporary folder.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

LINE = 100
PORTS = 40000

# Writes lines of 100 bytes: TOTAL megabytes at RATE megabytes a second (0: as fast as it can). Says how long it took, and
# how often and how long it had to wait because its pipe was full.
WORKER = r"""
import json, os, select, sys, time
total, rate, folder = float(sys.argv[1]) * 1e6, float(sys.argv[2]) * 1e6, sys.argv[3]
block = (b"x" * 99 + b"\n") * (650 if not rate else 100)
os.set_blocking(1, not rate)
written, waits, blocked = 0, 0, 0.0
began = time.monotonic()
while written < total:
    view = memoryview(block)
    while view:
        try: view = view[os.write(1, view):]
        except BlockingIOError:
            before = time.monotonic()
            select.select([], [1], [])
            waits += 1
            blocked += time.monotonic() - before
    written += len(block)
    if rate: time.sleep(max(0, began + written / rate - time.monotonic()))
seconds = time.monotonic() - began
json.dump({"bytes": written, "seconds": seconds, "waits": waits, "blocked": blocked}, open(f"{folder}/said.{os.environ.get('RANK', 0)}", "w"))
"""

# A line every 10 ms that says when it was written.
TICKER = r"""
import os, sys, time
for _ in range(int(sys.argv[1])):
    os.write(1, b"%d\n" % (time.time() * 1e6)); time.sleep(0.01)
"""


class Cluster:
    def __init__(self, binaries, folder):
        port_file = folder / "port"
        command = [binaries / "tractorun-minicluster", "--port", "0", "--exit-on-stdin-eof", "--port-file", port_file]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not port_file.exists() or not port_file.read_text().strip():
            time.sleep(0.01)
        self.proxy = f"http://127.0.0.1:{port_file.read_text().strip()}"

    def call(self, method, command, parameters, body=None):
        headers = {"X-YT-Parameters": json.dumps(parameters), "X-YT-Header-Format": "json"}
        request = urllib.request.Request(f"{self.proxy}/api/v4/{command}", body, headers, method=method)
        return urllib.request.urlopen(request).read()

    def prepare(self, path):
        for name in ("primary_lock", "incarnations", "models", "checkpoints", "logs"):
            self.call("POST", "create", {"type": "map_node", "path": f"{path}/{name}", "recursive": True})
        self.call("PUT", "set", {"path": f"{path}/@incarnation_id", "input_format": "json"}, b"-1")

    def get(self, path):
        return json.loads(self.call("GET", "get", {"path": path, "output_format": "json"}))["value"]

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def run(binaries, folder, cluster, name, workers, command, tables, settings=None):
    """Runs a node; gives its seconds, CPU seconds, largest resident memory in MiB, and what the workers said."""
    for old in folder.glob("said.*"):
        old.unlink()
    sandbox = folder / name
    sandbox.mkdir()
    path = f"//tmp/{name}"
    cluster.prepare(path)
    mode = "realtime_yt_table" if tables else "default"
    spec = {
        "version": "1.0", "cluster": {"proxy": cluster.proxy}, "yt_path": path, "command": command,
        "mesh": {"node_count": 1, "process_per_node": workers, "gpu_per_process": 0},
        "logs": {"mode": mode, **(settings or {})},
    }
    (sandbox / "spec.json").write_text(json.dumps(spec))
    environment = {
        "PATH": os.environ["PATH"], "TRACTORUN_JOB_SPEC": "spec.json", "YT_OPERATION_ID": "1-1-1-1",
        "YT_JOB_ID": "2-2-2-2", "YT_JOB_COOKIE": "0", "TRACTORUN_ADVERTISE_HOST": "127.0.0.1",
        **{f"YT_PORT_{index}": str(PORTS + index) for index in range(workers + 2)},
    }
    init = ["taskset", "-c", "0", binaries / "tractorun-init"]
    began = time.monotonic()
    process = subprocess.Popen(init, cwd=sandbox, env=environment, stderr=subprocess.PIPE)
    shown = [0, b""]

    def read():
        while chunk := os.read(process.stderr.fileno(), 1 << 20):
            shown[0] += len(chunk)
            shown[1] = (shown[1] + chunk)[-4000:]

    reader = threading.Thread(target=read)
    reader.start()
    usage = None
    while usage is None:
        # The guard is its parent: what counts is the child with the threads.
        usage = sample(process.pid)
        if process.poll() is not None:
            break
        time.sleep(0.02)
    last = usage or (0, 0)
    while process.poll() is None:
        last = sample(process.pid) or last
        time.sleep(0.05)
    reader.join()
    if process.returncode:
        sys.exit(f"error: {name} ended with {process.returncode}: {shown[1].decode(errors='replace')}")
    said = [json.loads(file.read_text()) for file in sorted(folder.glob("said.*"))]
    return {"seconds": time.monotonic() - began, "cpu": last[0], "rss": last[1], "workers": said, "path": path}


def sample(guard):
    """CPU seconds and largest resident memory of the init below the guard."""
    try:
        for child in pathlib.Path(f"/proc/{guard}/task/{guard}/children").read_text().split():
            status = pathlib.Path(f"/proc/{child}/status").read_text()
            if "Name:\ttractorun-init" in status:
                fields = pathlib.Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()
                ticks = os.sysconf("SC_CLK_TCK")
                peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
                return (int(fields[11]) + int(fields[12])) / ticks, int(peak.split()[1]) / 1024
    except (FileNotFoundError, ProcessLookupError, StopIteration):
        pass
    return None


def speed(result):
    worker = result["workers"][0]
    return worker["bytes"] / 1e6 / worker["seconds"]


def delays(cluster, path):
    """Seconds from a line's write to its row, as a reader that asks all the time sees it."""
    known, seen = 0, []
    table = f"{path}/logs/0/workers/0"
    while True:
        try:
            count = cluster.get(f"{table}/@row_count")
        except Exception:
            time.sleep(0.005)
            continue
        now = time.time()
        if count > known:
            rich = {"path": f"{table}[#{known}:#{count}]", "output_format": "json"}
            for line in cluster.call("GET", "read_table", rich).splitlines():
                seen.append(now - int(json.loads(line)["message"]) / 1e6)
            known = count
        if cluster.get(f"{table}/@tractorun_log/state") == "closed" and cluster.get(f"{table}/@row_count") == known:
            return seen
        time.sleep(0.002)


def main():
    binaries = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        worker, ticker = folder / "worker.py", folder / "ticker.py"
        worker.write_text(WORKER)
        ticker.write_text(TICKER)
        cluster = Cluster(binaries, folder)

        def writing(total, rate):
            return [sys.executable, str(worker), str(total), str(rate), str(folder)]

        cat = subprocess.Popen(["taskset", "-c", "0", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        drain = threading.Thread(target=lambda: [None for _ in iter(lambda: cat.stdout.read(1 << 20), b"")])
        drain.start()
        subprocess.run(writing(1000, 0), stdout=cat.stdin, check=True)
        cat.stdin.close()
        drain.join()
        said = json.loads((folder / "said.0").read_text())
        print(f"a worker's write through plain `cat`: {said['bytes'] / 1e6 / said['seconds']:.0f} MB/s")

        result = run(binaries, folder, cluster, "stderr", 1, writing(1000, 0), False)
        print(f"a worker's write to stderr, init on one core: {speed(result):.0f} MB/s, {result['cpu']:.2f} CPU s for 1000 MB")
        result = run(binaries, folder, cluster, "tables", 1, writing(400, 0), True)
        lines = cluster.get(f"{result['path']}/logs/0/workers/0/@tractorun_log/lines")
        assert lines * LINE == result["workers"][0]["bytes"], "lines are missing"
        print(f"to committed rows and stderr, init on one core: {lines * LINE / 1e6 / result['seconds']:.0f} MB/s until all is committed")
        result = run(binaries, folder, cluster, "eight", 8, writing(20, 1.25), True)
        print(f"8 workers, 10 MB/s together, 16 s: {result['rss']:.1f} MiB at most, {100 * result['cpu'] / result['seconds']:.1f} % of a core")
        result = run(binaries, folder, cluster, "blocked", 1, writing(500, 50), True)
        one = result["workers"][0]
        print(f"a worker at 50 MB/s for 10 s: its pipe was full {one['waits']} times, {1000 * one['blocked']:.0f} ms in all")
        seen = []
        watcher = threading.Thread(target=lambda: seen.extend(delays(cluster, "//tmp/ticks")))
        watcher.start()
        run(binaries, folder, cluster, "ticks", 1, [sys.executable, str(ticker), "1000"], True)
        watcher.join()
        seen.sort()
        print(f"a line's write to its row, 100 lines a second: p50 {seen[len(seen) // 2]:.3f} s, p99 {seen[len(seen) * 99 // 100]:.3f} s")
        cluster.stop()


if __name__ == "__main__":
    main()
