"""The `yt` command line of the official client, as a person types it: every line below is one call of a shell."""

import json
import os
import re
import shlex
import subprocess
import sys
import time

from conformance import holds, run_checks, same

# Where everything happens; for the shell, too.
ROOT = "//tmp"
os.environ["PATH"] = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
os.environ["ROOT"] = ROOT
GUID = re.compile(r"[0-9a-f]+(-[0-9a-f]+){3}")


def call(line, input=b""):
    return subprocess.run(["sh", "-c", line], input=input, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(line, input=b""):
    """stdout of a line that succeeds, without the last newline."""
    finished = call(line, input)
    holds(finished.returncode == 0, f"{line} failed: {finished.stderr.decode()}")
    return finished.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


def fails(line, *texts):
    """The line fails, and its stderr has all of the texts."""
    finished = call(line)
    stderr = finished.stderr.decode()
    holds(finished.returncode != 0, f"{line} succeeded")
    for text in texts:
        holds(text in stderr, f"no {text!r} in the stderr of {line}: {stderr}")


def wait_until(line, wanted):
    deadline = time.monotonic() + 60
    while (found := run(line)) != wanted:
        holds(time.monotonic() < deadline, f"{line} says {found!r}, wanted {wanted!r}")


def check_nodes():
    holds(GUID.fullmatch(run("yt create map_node $ROOT/nodes/deep -r")), "create prints the id")
    run("yt set $ROOT/nodes/text '\"a b\"'")
    run("yt set $ROOT/nodes/@mine '{b=1;c=[x;y]}'")
    same(run("yt list $ROOT/nodes"), "deep\ntext")
    same(json.loads(run("yt get $ROOT/nodes/@mine --format json")), {"b": 1, "c": ["x", "y"]})
    same(run("yt get $ROOT/nodes/text --format '<format=text>yson'"), '"a b"')
    same(run("yt exists $ROOT/nodes/deep; yt exists $ROOT/nodes/none"), "true\nfalse")


def check_copy_move_link_remove():
    run("yt create document $ROOT/a --attributes '{value={k=v}}'")
    run("yt copy $ROOT/a $ROOT/b && yt move $ROOT/b $ROOT/c && yt link $ROOT/c $ROOT/d")
    same(run("yt exists $ROOT/b; yt exists $ROOT/c"), "false\ntrue")
    same(json.loads(run("yt get $ROOT/d --format json")), {"k": "v"})
    same(run("yt get $ROOT/d\\&/@target_path --format json"), json.dumps(f"{ROOT}/c"))
    run("yt remove $ROOT/d && yt remove $ROOT/c")
    fails("yt remove $ROOT/c", "has no child", '"c"')
    run("yt remove -f $ROOT/c")
    fails("yt copy $ROOT/none $ROOT/other", "has no child", '"none"')
    fails("yt create map_node $ROOT/a", "already exists")


def check_transactions_and_locks():
    run("yt create map_node $ROOT/locked")
    transaction = run("yt start-tx --timeout 60000")
    holds(GUID.fullmatch(transaction), f"start-tx prints the id, not {transaction!r}")
    run(f"yt lock $ROOT/locked --tx {transaction}")
    run(f"yt set $ROOT/locked/@x 5 --tx {transaction}")
    same(run("yt exists $ROOT/locked/@x"), "false")
    fails("yt set $ROOT/locked/@x 6", "Cannot take", "lock is taken by concurrent transaction", transaction)
    run(f"yt ping-tx {transaction} && yt commit-tx {transaction}")
    same(run("yt get $ROOT/locked/@x"), "5")
    fails(f"yt commit-tx {transaction}", "No such transaction", transaction)
    transaction = run("yt start-tx --timeout 60000")
    run(f"yt remove $ROOT/locked --tx {transaction} && yt abort-tx {transaction}")
    same(run("yt exists $ROOT/locked"), "true")


def check_tables():
    rows = b'{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n'
    run("yt create table $ROOT/table && yt write-table $ROOT/table --format json", rows)
    read = run("yt read-table $ROOT/table --format json")
    same([json.loads(line) for line in read.splitlines()], [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])
    run("yt write-table '<append=%true>'$ROOT/table --format yson", b"{a=3;b=z};")
    same(run("yt get $ROOT/table/@row_count"), "3")
    same(run("yt read-table $ROOT/table'{b}[#1:]' --format '<format=text>yson'").replace('"', ""), "{b=y};\n{b=z};")
    fails("yt read-table $ROOT/none --format json", "has no child", '"none"')


def check_files():
    content = bytes(range(256)) * 100
    run("yt write-file $ROOT/file", content)
    same(call("yt read-file $ROOT/file").stdout, content)
    same(run("yt get $ROOT/file/@uncompressed_data_size"), str(len(content)))


def check_operations():
    tasks = '{first={command="echo said >&2";job_count=2};second={command="true";job_count=1}}'
    run(f"yt vanilla --tasks {shlex.quote(tasks)} --spec '{{title=\"typed\"}}' > operation")
    tasks = '{task={command="echo started >&2; sleep 1000";job_count=1}}'
    operation = run(f"yt vanilla --tasks {shlex.quote(tasks)} --async | tail -n 1")
    holds(GUID.fullmatch(operation), f"--async prints the id, not {operation!r}")
    jobs = f"yt list-jobs {operation} --format json"

    def running():
        return [job["id"] for job in json.loads(run(jobs))["jobs"] if job["state"] == "running"]

    deadline = time.monotonic() + 60
    while not running():
        holds(time.monotonic() < deadline, "a job starts")
    (job,) = running()
    wait_until(f"yt get-job-stderr {job} {operation}", "started")
    same(state_of(operation), "running")
    holds(operation in run("yt list-operations --state running --format json"), "it is listed")
    run(f"yt abort-op {operation} --message enough")
    same(state_of(operation), "aborted")
    holds("enough" in run(f"yt get-operation {operation} --attribute result --format json"), "the reason is kept")
    fails("yt get-operation 1-2-3-4", "1-2-3-4")


def state_of(operation):
    return json.loads(run(f"yt get-operation {operation} --attribute state --format json"))["state"]


def check_a_failing_operation():
    tasks = '{task={command="echo last words >&2; exit 3";job_count=1}}'
    line = f"yt vanilla --tasks {shlex.quote(tasks)} --spec '{{max_failed_job_count=1}}'"
    fails(line, "failed", "exited with code 3", "last words")


run_checks(globals())
