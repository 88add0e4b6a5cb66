"""The `yt` command line of the official client, as a person types it: every line below is one call of a shell."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time

import yt.yson as yson
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


def check_attributes_acl_and_find():
    run("yt create map_node $ROOT/marked/inner -r && yt create document $ROOT/marked/paper")
    run("yt set-attribute $ROOT/marked color '\"red\"'")
    same(run("yt get $ROOT/marked/@color --format json"), '"red"')
    run("yt remove-attribute $ROOT/marked color")
    same(run("yt exists $ROOT/marked/@color"), "false")
    run("yt set $ROOT/marked/@acl '[{action=allow;subjects=[root];permissions=[read]}]'")
    (entry,) = json.loads(run("yt get $ROOT/marked/@acl --format json"))
    same((entry["action"], entry["permissions"], entry["inheritance_mode"]), ("allow", ["read"], "object_and_descendants"))
    fails("yt set $ROOT/marked/@acl '[{action=maybe;subjects=[root];permissions=[read]}]'", "action")
    same(run("yt find $ROOT/marked --type document"), f"{ROOT}/marked/paper")
    holds("allow" in run("yt check-permission root read $ROOT/marked"), "root may read")
    holds(run("yt list $ROOT/marked -l").count("\n") == 1, "a long listing has a line for each node")


def check_lock_modes():
    run("yt create map_node $ROOT/modes")
    one, two = run("yt start-tx --timeout 60000"), run("yt start-tx --timeout 60000")
    run(f"yt --tx {one} lock $ROOT/modes --mode shared --child-key a")
    run(f"yt --tx {two} lock $ROOT/modes --mode shared --child-key b")
    fails(f"yt --tx {two} lock $ROOT/modes --mode shared --child-key a", "Cannot take", one)
    fails(f"yt --tx {two} lock $ROOT/modes", "Cannot take", one)
    run(f"yt --tx {two} lock $ROOT/modes --waitable")
    holds("pending" in run("yt get $ROOT/modes/@locks --format json"), "it waits")
    run(f"yt --tx {one} unlock $ROOT/modes")
    holds("pending" not in run("yt get $ROOT/modes/@locks --format json"), "its turn has come")
    run(f"yt abort-tx {two} && yt commit-tx {one}")
    holds(int(run("yt generate-timestamp")) > 0, "timestamps are numbers")


def check_schemas_sorted_tables_and_parts():
    schema = '{schema=[{name=k;type=int64;sort_order=ascending};{name=v;type=string}]}'
    run(f"yt create table $ROOT/sorted --attributes '{schema}'")
    run("yt write-table $ROOT/sorted --format json", b'{"k":1,"v":"a"}\n{"k":2,"v":"b"}\n{"k":5,"v":"c"}\n')
    same(run("yt read-table $ROOT/sorted'{v}[2:6]' --format json").split(), ['{"v":"b"}', '{"v":"c"}'])
    same(call("printf '{k=3};{k=2}' | yt write-table $ROOT/sorted --format yson").returncode, 1)
    fails("printf '{k=x}' | yt write-table $ROOT/sorted --format yson", '"k"')
    run("yt alter-table $ROOT/sorted --schema '[{name=k;type=int64;sort_order=ascending};{name=v;type=string};{name=w;type=int64}]'")
    same(len(json.loads(run("yt get $ROOT/sorted/@schema --format json"))["$value"]), 3)
    run("yt create table $ROOT/all && yt concatenate --src $ROOT/sorted --src $ROOT/sorted --dst $ROOT/all")
    same(run("yt get $ROOT/all/@row_count"), "6")
    binary = b'{"raw":"\\u00ff\\u0000"}\n'
    run("yt create table $ROOT/raw && yt write-table $ROOT/raw --format json", binary)
    read = call("yt read-table $ROOT/raw --format '<format=text>yson'").stdout
    same(next(yson.loads(read, yson_type="list_fragment", encoding=None)), {b"raw": b"\xff\x00"})


def check_large_rows():
    text = "x" * 5_000_000
    run("yt create table $ROOT/large && yt write-table $ROOT/large --format json", json.dumps({"a": text}).encode() + b"\n")
    same(json.loads(run("yt read-table $ROOT/large --format json"))["a"], text)


def check_files_with_attributes_and_appends():
    run("printf one | yt write-file $ROOT/log && printf two | yt write-file '<append=%true>'$ROOT/log")
    same(run("yt read-file $ROOT/log"), "onetwo")
    same(run("yt download $ROOT/log"), "onetwo")
    run("printf bytes | yt upload $ROOT/tool --executable")
    same(run("yt get $ROOT/tool/@executable --format json"), "true")
    run("printf hashed | yt write-file $ROOT/hashed --compute-md5")
    same(run("yt get $ROOT/hashed/@md5 --format json"), '"%s"' % hashlib.md5(b"hashed").hexdigest())


def check_batches():
    first = '{command=create;parameters={type=map_node;path="%s/batched"}}' % ROOT
    second = '{command=get;parameters={path="%s/batched/@type"}}' % ROOT
    third = '{command=get;parameters={path="%s/none"}}' % ROOT
    out = run(f"yt execute-batch {shlex.quote(first)}") + run(f"yt execute-batch {shlex.quote(second)} {shlex.quote(third)}")
    holds("map_node" in out and "has no child" in out, out)
    same(run("yt exists $ROOT/batched"), "true")


def started(command, more=""):
    tasks = '{task={command="%s";job_count=1}}' % command
    operation = run(f"yt vanilla --tasks {shlex.quote(tasks)} --async --spec {shlex.quote('{max_failed_job_count=1;%s}' % more)} | tail -n 1")
    wait_until(f"yt list-jobs {operation} --format json | grep -c '\"running\"'", "1")
    return operation


def check_control_of_operations():
    operation = started("sleep 1000", 'alias="*typed-%d"' % time.time_ns())
    run(f"yt suspend-op {operation}")
    suspended = f"yt get-operation {operation} --attribute suspended --format json"
    same(json.loads(run(suspended))["suspended"], True)
    run(f"yt resume-op {operation}")
    same(json.loads(run(suspended))["suspended"], False)
    run(f"yt update-op-parameters {operation} '{{annotations={{description={{note=typed}}}}}}'")
    parameters = run(f"yt get-operation {operation} --attribute runtime_parameters --format json")
    same(json.loads(parameters)["runtime_parameters"]["annotations"]["description"], {"note": "typed"})
    run(f"yt patch-op-spec {operation} '[{{path=\"/max_failed_job_count\";value=7}}]'")
    fails(f"yt patch-op-spec {operation} '[{{path=\"/no_such_field\";value=7}}]'", "/no_such_field")
    alias = json.loads(run(f"yt get-operation {operation} --attribute alias --format json"))["alias"]
    same(json.loads(run(f"yt get-operation {shlex.quote(alias)} --include-runtime --attribute id --format json"))["id"], operation)
    (job,) = [job["id"] for job in json.loads(run(f"yt list-jobs {operation} --format json"))["jobs"]]
    same(json.loads(run(f"yt get-job {job} {operation} --format json"))["state"], "running")
    run(f"yt abort-job {job}")
    wait_until(f"yt list-jobs {operation} --format json | grep -c '\"running\"'", "1")
    run(f"yt complete-op {operation}")
    same(state_of(operation), "completed")


def check_track_op_tells_the_end():
    operation = started("sleep 0.5; echo said it >&2; exit 9")
    fails(f"yt track-op {operation}", "exited with code 9", "said it")
    operation = started("sleep 0.5")
    run(f"yt track-op {operation}")
    same(state_of(operation), "completed")


run_checks(globals())
