"""A minicluster for a measurement, and what of its API a measurement needs."""

import json
import subprocess
import time
import urllib.request


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
        """Makes the folders of a run, those of the Python tractorun's log tables among them."""
        names = ("primary_lock", "incarnations", "models", "checkpoints", "logs", "_raw_logs/workers", "_raw_logs/sidecars")
        for name in names:
            self.call("POST", "create", {"type": "map_node", "path": f"{path}/{name}", "recursive": True})
        self.call("PUT", "set", {"path": f"{path}/@incarnation_id", "input_format": "json"}, b"-1")

    def get(self, path):
        return json.loads(self.call("GET", "get", {"path": path, "output_format": "json"}))["value"]

    def exists(self, path):
        return json.loads(self.call("GET", "exists", {"path": path, "output_format": "json"}))["value"]

    def rows(self, table, begin, end):
        read = {"path": f"{table}[#{begin}:#{end}]", "output_format": "json"}
        return [json.loads(line) for line in self.call("GET", "read_table", read).splitlines()]

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
