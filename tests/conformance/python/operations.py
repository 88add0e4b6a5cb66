"""Vanilla operations: jobs, files, environment, ports, secrets, stderr, failures, abort."""

import os
import time

import yt.wrapper as wrapper
from yt.wrapper.driver import make_request

from conformance import API_VERSION, client, holds, refused, run_checks, same

yt = client()


def vanilla(command, job_count=1, **task):
    return {"tasks": {"task": {"command": command, "job_count": job_count, **task}}, "max_failed_job_count": 1}


def run(spec, sync=True):
    return yt.run_operation(wrapper.VanillaSpecBuilder().spec(spec), sync=sync)


def stderr_of(operation):
    jobs = yt.list_jobs(operation.id)["jobs"]
    return sorted(yt.get_job_stderr(operation.id, str(job["id"])).read().decode() for job in jobs)


def wait_until(condition, what):
    deadline = time.monotonic() + 60
    while not condition():
        holds(time.monotonic() < deadline, what)
        time.sleep(0.02)


def check_success():
    operation = run(vanilla("echo said >&2", job_count=3))
    same(operation.get_state().name, "completed")
    same(stderr_of(operation), ["said\n"] * 3)
    same(yt.get_operation(operation.id)["user_transaction_id"], "0-0-0-0")
    progress = operation.get_attributes(fields=["brief_progress"])["brief_progress"]["jobs"]
    same((progress["total"], progress["completed"], progress["failed"]), (3, 3, 0))


def check_failure_tells_the_code_and_the_stderr():
    try:
        run(vanilla("echo last words >&2; exit 3"))
    except wrapper.YtOperationFailedError as error:
        holds(error.contains_code(1205) and error.contains_code(10000), f"codes of {error!r}")
        holds("exited with code 3" in str(error), str(error))
        stderrs = error.attributes["stderrs"]
        holds("last words" in str(stderrs), str(stderrs))
        return
    raise AssertionError("a failing job fails its operation")


def check_failure_by_signal():
    try:
        run(vanilla("kill -9 $$"))
    except wrapper.YtOperationFailedError as error:
        holds("9" in str(error), str(error))
        return
    raise AssertionError("a killed job fails its operation")


def check_fail_on_job_restart():
    spec = vanilla("[ $YT_JOB_COOKIE = 1 ] && exit 4; sleep 1000", job_count=2)
    spec["fail_on_job_restart"] = True
    try:
        run(spec)
    except wrapper.YtOperationFailedError as error:
        holds(error.contains_code(210), f"codes of {error}")
        return
    raise AssertionError("the first failed job fails the operation")


def check_environment_of_a_job():
    spec = vanilla(
        'echo "$A $YT_JOB_COOKIE $YT_OPERATION_ID $((YT_PORT_0 > 0 && YT_PORT_1 > 0)) $YT_SECURE_VAULT_key ${YT_JOB_ID:+id}" >&2',
        job_count=2,
        environment={"A": "value of A"},
        port_count=2,
    )
    spec["secure_vault"] = {"key": "hidden"}
    operation = run(spec)
    same(stderr_of(operation), [f"value of A {cookie} {operation.id} 1 hidden id\n" for cookie in (0, 1)])
    holds("hidden" not in str(yt.get_operation(operation.id)), "the secure vault is shown to nobody")


def check_files():
    yt.write_file("//tmp/plain", b"from cypress\n")
    with open("script.sh", "w") as stream:
        stream.write("#!/bin/sh\necho from a local file\n")
    paths = [
        wrapper.FilePath("//tmp/plain", file_name="renamed"),
        "//tmp/plain",
        wrapper.LocalFile("script.sh", attributes={"executable": True}),
    ]
    spec = wrapper.VanillaSpecBuilder().begin_task("task").command("cat renamed plain >&2; ./script.sh >&2") \
        .job_count(1).file_paths(paths).end_task()
    operation = yt.run_operation(spec)
    same(stderr_of(operation), ["from cypress\nfrom cypress\nfrom a local file\n"])


def check_missing_file_fails_the_operation():
    with refused("//tmp/nowhere"):
        run(vanilla("true", file_paths=["//tmp/nowhere"]))


def check_abort():
    operation = run(vanilla("echo started >&2; sleep 1000"), sync=False)
    wait_until(lambda: yt.list_jobs(operation.id)["jobs"] and stderr_of(operation) == ["started\n"], "it starts")
    same(operation.get_state().name, "running")
    operation.abort(reason="enough")
    same(operation.get_state().name, "aborted")
    error = operation.get_attributes(fields=["result"])["result"]["error"]
    holds("enough" in str(error), str(error))
    with refused(code=200):
        # Not by `abort()`, which looks at the state first.
        make_request("abort_op" if API_VERSION == "v3" else "abort_operation", {"operation_id": operation.id}, client=yt)


def check_operation_ends_with_its_transaction():
    transaction = yt.start_transaction(timeout=60000)
    with yt.Transaction(transaction_id=transaction):
        operation = run(vanilla("sleep 1000"), sync=False)
    wait_until(lambda: operation.get_state().name == "running", "it runs")
    same(yt.get_operation(operation.id)["user_transaction_id"], transaction)
    yt.abort_transaction(transaction)
    wait_until(lambda: operation.get_state().name == "aborted", "it ends with its transaction")


def check_complete_and_parameters():
    operation = run(vanilla("sleep 1000"), sync=False)
    wait_until(lambda: operation.get_state().name == "running", "it runs")
    yt.update_operation_parameters(operation.id, {"annotations": {"description": {"text": "mine"}}})
    parameters = yt.get_operation(operation.id, attributes=["runtime_parameters"])["runtime_parameters"]
    same(parameters["annotations"]["description"], {"text": "mine"})
    operation.complete()
    same(operation.get_state().name, "completed")


def check_alias_and_get_job():
    spec = vanilla("echo said >&2")
    spec["alias"] = f"*conformance-{time.time_ns()}"
    operation = run(spec)
    found = yt.get_operation(operation_alias=spec["alias"], include_runtime=True)
    same(found["id"], operation.id)
    (job,) = yt.list_jobs(operation.id)["jobs"]
    one = yt.get_job(operation.id, job["id"])
    same((one.get("job_id", one.get("id")), one["state"]), (job["id"], "completed"))
    with refused():
        yt.get_job(operation.id, "1-2-3-4")


def check_suspend_and_resume():
    operation = run(vanilla("sleep 1000"), sync=False)
    wait_until(lambda: operation.get_state().name == "running", "it runs")
    yt.suspend_operation(operation.id)
    same(yt.get_operation(operation.id)["suspended"], True)
    yt.resume_operation(operation.id)
    same(yt.get_operation(operation.id)["suspended"], False)
    operation.abort()


def check_bad_spec():
    with refused("job_count"):
        run(vanilla("true", job_count="many"))


def check_lists():
    operations = yt.list_operations()["operations"]
    holds(len(operations) >= 5, "earlier operations are listed")
    same({operation["type"] for operation in operations}, {"vanilla"})
    failed = yt.list_operations(state="failed")["operations"]
    same({operation["state"] for operation in failed}, {"failed"})
    same(len(yt.list_operations(limit=2)["operations"]), 2)
    named = run({**vanilla("true"), "title": "a title like no other"})
    same([one["id"] for one in yt.list_operations(filter="like no other")["operations"]], [named.id])


def check_what_is_unknown_is_refused():
    with refused():
        yt.get_operation("1-2-3-4")
    with refused():
        run({"tasks": {}})


def check_jobs_are_listed_and_told_apart():
    spec = vanilla('[ $YT_JOB_COOKIE = 1 ] && { echo broken >&2; exit 5; }; exit 0', job_count=3)
    try:
        run(spec)
        raise AssertionError("a failing job fails its operation")
    except wrapper.YtOperationFailedError as error:
        operation = error.attributes["id"]
    (failed,) = yt.list_jobs(operation, job_state="failed")["jobs"]
    holds("5" in str(failed["error"]), str(failed))
    same(yt.get_job_stderr(operation, failed["id"]).read(), b"broken\n")
    one = yt.get_job(operation, failed["id"])
    same((one["state"], one["task_name"] if "task_name" in one else "task"), ("failed", "task"))
    same({job["state"] for job in yt.list_jobs(operation, with_stderr=True)["jobs"]}, {"failed"})
    same(len(yt.list_jobs(operation, limit=1)["jobs"]), 1)


def check_abort_job_runs_it_again():
    operation = run(vanilla("echo $YT_JOB_INDEX >&2; [ $YT_JOB_INDEX = 1 ] || sleep 1000"), sync=False)
    wait_until(lambda: yt.list_jobs(operation.id, job_state="running")["jobs"] and stderr_of(operation) == ["0\n"], "it starts")
    (job,) = yt.list_jobs(operation.id, job_state="running")["jobs"]
    yt.abort_job(job["id"])
    operation.wait()
    same(operation.get_state().name, "completed")
    same(sorted(job["state"] for job in yt.list_jobs(operation.id)["jobs"]), ["aborted", "completed"])


def check_tracker_reports_progress():
    operation = run(vanilla("true", job_count=2), sync=False)
    operation.wait(timeout=60000)
    same(operation.get_progress()["completed"], 2)
    holds(operation.exists(), "it is known")


def check_patch_of_the_spec():
    # The first two jobs fail, the third one ends well.
    spec = vanilla("[ $YT_JOB_INDEX = 0 ] && { while ! [ -e $GO ]; do sleep 0.02; done; exit 3; }; [ $YT_JOB_INDEX = 1 ] && exit 3; exit 0",
                   environment={"GO": os.path.abspath("go")})
    operation = run(spec, sync=False)
    wait_until(lambda: operation.get_state().name == "running", "it runs")
    yt.patch_operation_spec(operation.id, [{"path": "/max_failed_job_count", "value": 3}])
    open("go", "w").close()
    operation.wait()
    same(operation.get_state().name, "completed")


def check_memory_limit():
    try:
        run(vanilla("printf -v text '%*s' $((64 << 20)) ''; sleep 1000; :", memory_limit=32 << 20))
    except wrapper.YtOperationFailedError as error:
        holds(error.contains_code(1200), str(error))
        return
    raise AssertionError("a job over its memory limit fails its operation")


run_checks(globals())
