"""Batches: many commands in one request, some of which fail."""

import yt.wrapper as wrapper
from conformance import client, holds, refused, run_checks, same

yt = client()


def check_batch():
    batch = yt.create_batch_client()
    created = [batch.create("map_node", f"//tmp/batch/{index}", recursive=True) for index in range(20)]
    batch.commit_batch()
    holds(all(response.is_ok() for response in created), "all are made")
    same(len(yt.list("//tmp/batch")), 20)

    answers = [
        batch.exists("//tmp/batch/3"),
        batch.get("//tmp/batch/3/@type"),
        batch.list("//tmp/batch"),
        batch.get("//tmp/nowhere"),
        batch.set("//tmp/batch/@a", {"deep": [1]}),
    ]
    batch.commit_batch()
    same(answers[0].get_result(), True)
    same(answers[1].get_result(), "map_node")
    same(len(answers[2].get_result()), 20)
    holds(not answers[3].is_ok(), "the missing one failed")
    error = wrapper.YtError(**{key: answers[3].get_error()[key] for key in ("message", "code", "inner_errors")})
    holds(error.contains_code(500) or answers[3].get_error()["code"] == 500, "with the code of a missing node")
    holds(answers[4].is_ok(), "what follows a failure is done")
    same(yt.get("//tmp/batch/@a"), {"deep": [1]})


def check_errors_can_be_raised():
    batch = yt.create_batch_client(raise_errors=True)
    batch.get("//tmp/nowhere")
    with refused():
        batch.commit_batch()


def check_in_a_transaction():
    with yt.Transaction():
        batch = yt.create_batch_client()
        batch.create("map_node", "//tmp/in_transaction")
        batch.commit_batch()
        holds(not client().exists("//tmp/in_transaction"), "not seen outside yet")
    holds(yt.exists("//tmp/in_transaction"), "seen after the commit")


run_checks(globals())
