"""Retries of the official client: what a proxy that is in trouble does to it, and that nothing is done twice.

Needs the control endpoint of a minicluster, at CONTROL.
"""

import json
import os
import time
import urllib.request

import yt.wrapper as wrapper
from conformance import API_VERSION, client, holds, refused, run_checks, same

CONTROL = os.environ["CONTROL"]
RETRIES = {"enable": True, "count": 6, "backoff": {"policy": "constant_time", "constant_time": 20}}
yt = client(
    proxy={"retries": RETRIES, "heavy_request_timeout": 20000, "request_timeout": 20000},
    read_retries=RETRIES,
    write_retries={**RETRIES, "chunk_size": 100_000},
    start_operation_retries=RETRIES,
    batch_requests_retries=RETRIES,
    dynamic_table_retries=RETRIES,
)
# A proxy in trouble, as a client can see it before, during and after a request.
BUSY = {"answer": {"status": 503, "error": {"code": 1, "message": "Busy"}}}
TROUBLE = [
    {"answer": {"status": 503}},
    {"answer": {"status": 500}},
    BUSY,
    {"reset": {"at": "before_request_body"}},
    {"reset": {"at": "after_request_body"}},
    {"reset": {"at": "before_answer"}},
    {"reset": {"at": "before_answer_body"}},
    "lose_answer",
]
# The same for requests with a body that is long; each of their retries pauses for longer.
TROUBLE_WITH_BODIES = [
    BUSY,
    {"reset": {"at": "during_request_body"}},
    {"reset": {"at": "before_answer"}},
    "lose_answer",
]


def control(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(CONTROL + path, data, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


class fault:
    """While this is open the fault is planned; at its end it must have struck."""

    def __init__(self, command, effect, times=1):
        self.plan = {"match": {"command": command}, "times": times, "effect": effect}

    def __enter__(self):
        self.id = control("POST", "/faults", self.plan)["id"]

    def __exit__(self, failed, *_):
        found = [one for one in control("GET", "/faults")["faults"] if one["id"] == self.id]
        control("DELETE", f"/faults/{self.id}")
        if not failed:
            times = self.plan["times"]
            same(found[0]["struck"], times)


def name(v3, v4):
    return v3 if API_VERSION == "v3" else v4


def check_light_mutations_are_applied_once():
    for number, effect in enumerate(TROUBLE):
        # Done twice, the second would say that the node is there.
        with fault("create", effect, times=2):
            yt.create("map_node", f"//tmp/once_{number}")
        # The list would have two ends.
        yt.create("document", f"//tmp/list_{number}", attributes={"value": []})
        with fault("set", effect):
            yt.set(f"//tmp/list_{number}/end", "x")
        same(yt.get(f"//tmp/list_{number}"), ["x"])


def check_reads():
    yt.set("//tmp/value", 5)
    for effect in TROUBLE:
        with fault("get", effect, times=2):
            same(yt.get("//tmp/value"), 5)


def check_transactions():
    for number, effect in enumerate(TROUBLE):
        with fault(name("start_tx", "start_transaction"), effect), fault(name("commit_tx", "commit_transaction"), effect):
            with yt.Transaction():
                yt.create("map_node", f"//tmp/committed_{number}")
        holds(client().exists(f"//tmp/committed_{number}"), "it is committed")


def check_pings_go_on():
    with fault(name("ping_tx", "ping_transaction"), BUSY, times=3):
        with yt.Transaction(timeout=3000, ping=True, ping_period=50) as transaction:
            deadline = time.monotonic() + 30
            while control("GET", "/faults")["faults"][0]["struck"] < 3:
                holds(time.monotonic() < deadline, "the ping thread goes on after errors")
                time.sleep(0.02)
            yt.create("map_node", "//tmp/pinged")
            holds(yt.exists(f"#{transaction.transaction_id}"), "the transaction lives")
    holds(yt.exists("//tmp/pinged"), "and was committed")


def check_batches():
    for number, effect in enumerate(TROUBLE):
        batch = yt.create_batch_client(raise_errors=True)
        batch.create("map_node", f"//tmp/batch_{number}")
        with fault("execute_batch", effect):
            batch.commit_batch()
        holds(yt.exists(f"//tmp/batch_{number}"), "made by a batch")


def check_files():
    content = os.urandom(350_000)
    for effect in TROUBLE_WITH_BODIES:
        with fault("write_file", effect):
            yt.write_file("//tmp/file", content, force_create=True)
        same(yt.read_file("//tmp/file").read(), content)
    for effect in [BUSY, {"reset": {"at": "before_answer"}}, {"reset": {"at": {"during_answer_body": {"bytes": 200_000}}}}]:
        with fault("read_file", effect):
            same(yt.read_file("//tmp/file").read(), content)


def check_tables():
    rows = [{"index": index, "text": "x" * 100} for index in range(3000)]
    for effect in TROUBLE_WITH_BODIES:
        yt.remove("//tmp/table", force=True)
        with fault("write_table", effect):
            yt.write_table("//tmp/table", rows)
        holds(list(yt.read_table("//tmp/table")) == rows, f"{effect}: every row is there, and once")
        with fault("write_table", effect):
            yt.write_table("<append=%true>//tmp/table", rows[:1])
        same(yt.row_count("//tmp/table"), len(rows) + 1)
    for effect in [BUSY, {"reset": {"at": {"during_answer_body": {"bytes": 100_000}}}}]:
        with fault("read_table", effect):
            holds(list(yt.read_table("//tmp/table")) == rows + rows[:1], f"{effect}: every row is read once")


def check_operations_start_once():
    before = len(yt.list_operations()["operations"])
    spec = wrapper.VanillaSpecBuilder().spec({"tasks": {"task": {"command": "true", "job_count": 1}}})
    for effect in TROUBLE:
        with fault(name("start_op", "start_operation"), effect):
            operation = yt.run_operation(spec)
        same(operation.get_state().name, "completed")
    same(len(yt.list_operations()["operations"]), before + len(TROUBLE))


def check_a_proxy_that_is_away():
    control("POST", "/proxy/away", {"ms": 300})
    # The pauses of this client are shorter than that; together they are longer.
    patient = client(proxy={"retries": {**RETRIES, "count": 40, "backoff": {"policy": "constant_time", "constant_time": 50}}})
    holds(patient.exists("//tmp"), "it comes back")


def check_what_does_not_pass_is_not_tried_again():
    control("DELETE", "/counters")
    with refused(code=500):
        yt.get("//tmp/nowhere")
    asked = sum(one["requests"] for one in control("GET", "/counters")["counters"] if one["command"] == "get")
    same(asked, 1)
    with fault("get", BUSY, times=6), refused("Busy"):
        yt.get("//tmp/value")


run_checks(globals())
