"""Transactions: isolation, commit, abort, nesting, timeouts, pings, prerequisites."""

import time

from yt.wrapper.client import create_client_with_command_params

from conformance import client, holds, refused, run_checks, same

yt = client()
other = client()


def check_commit_and_isolation():
    with yt.Transaction():
        yt.create("map_node", "//tmp/committed")
        holds(yt.exists("//tmp/committed"), "it is there inside")
        holds(not other.exists("//tmp/committed"), "and not yet outside")
    holds(other.exists("//tmp/committed"), "it is there after the commit")


def check_abort_by_exception():
    class Stop(Exception):
        pass

    try:
        with yt.Transaction():
            yt.create("map_node", "//tmp/aborted")
            raise Stop
    except Stop:
        pass
    holds(not yt.exists("//tmp/aborted"), "nothing is left of an aborted transaction")


def check_removal_and_attributes_are_isolated():
    yt.create("map_node", "//tmp/changed", attributes={"a": 1})
    yt.create("map_node", "//tmp/gone")
    with yt.Transaction():
        yt.set("//tmp/changed/@a", 2)
        yt.remove("//tmp/gone")
        same(other.get("//tmp/changed/@a"), 1)
        holds(other.exists("//tmp/gone"), "the removal is not seen outside")
        holds(not yt.exists("//tmp/gone"), "it is seen inside")
    same(other.get("//tmp/changed/@a"), 2)
    holds(not other.exists("//tmp/gone"), "and outside after the commit")


def check_nesting():
    with yt.Transaction():
        yt.create("map_node", "//tmp/outer")
        with yt.Transaction():
            yt.create("map_node", "//tmp/outer/inner")
        holds(yt.exists("//tmp/outer/inner"), "the inner one is committed into the outer one")
        holds(not other.exists("//tmp/outer"), "nothing is seen before the outer one ends")
        try:
            with yt.Transaction():
                yt.create("map_node", "//tmp/outer/dropped")
                raise KeyError
        except KeyError:
            pass
        holds(not yt.exists("//tmp/outer/dropped"), "an aborted inner one leaves nothing")
    same(other.list("//tmp/outer"), ["inner"])


def check_explicit_commands():
    transaction = yt.start_transaction(timeout=60000, attributes={"title": "mine"})
    holds(yt.exists(f"#{transaction}"), "a transaction is an object")
    same(yt.get(f"#{transaction}/@title"), "mine")
    with yt.Transaction(transaction_id=transaction):
        yt.create("map_node", "//tmp/explicit")
    holds(not yt.exists("//tmp/explicit"), "attaching to it does not commit it")
    yt.ping_transaction(transaction)
    yt.commit_transaction(transaction)
    holds(yt.exists("//tmp/explicit"), "committed")
    with refused(code=11000):
        yt.ping_transaction(transaction)
    with refused(code=11000):
        yt.commit_transaction(transaction)
    transaction = yt.start_transaction()
    yt.abort_transaction(transaction)
    # Aborting what is over already is no error.
    yt.abort_transaction(transaction)
    with refused(code=11000):
        yt.ping_transaction(transaction)


def check_timeout():
    transaction = yt.start_transaction(timeout=200)
    deadline = time.monotonic() + 30
    while yt.exists(f"#{transaction}"):
        holds(time.monotonic() < deadline, "a transaction that nobody pings ends")
        time.sleep(0.02)
    with refused(code=11000):
        yt.ping_transaction(transaction)


def check_ping_thread_keeps_it_alive():
    with yt.Transaction(timeout=600, ping=True, ping_period=100):
        yt.create("map_node", "//tmp/pinged")
        # Longer than the timeout: only pings keep it alive. This waits for time because time is what is tested.
        time.sleep(1.5)
        yt.set("//tmp/pinged/@alive", True)
    same(yt.get("//tmp/pinged/@alive"), True)


def check_abort_takes_the_nested():
    parent = yt.start_transaction()
    with yt.Transaction(transaction_id=parent):
        child = yt.start_transaction()
    yt.abort_transaction(parent)
    with refused(code=11000):
        yt.ping_transaction(child)


def check_prerequisites():
    fence = yt.start_transaction()
    dependent = yt.start_transaction(prerequisite_transaction_ids=[fence])
    yt.ping_transaction(dependent)
    fenced = create_client_with_command_params(client=yt, prerequisite_transaction_ids=[fence])
    fenced.create("map_node", "//tmp/fenced")
    yt.abort_transaction(fence)
    with refused(code=11000):
        yt.ping_transaction(dependent)
    with refused(code=1000):
        fenced.set("//tmp/fenced/@late", 1)
    holds(not yt.exists("//tmp/fenced/@late"), "a write behind a lost fence does nothing")
    with refused(code=1000):
        yt.start_transaction(prerequisite_transaction_ids=[fence])


run_checks(globals())
