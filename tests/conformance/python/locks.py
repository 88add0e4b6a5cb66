"""Locks: modes, conflicts, child and attribute keys, waiting, unlocking."""

from conformance import client, holds, refused, run_checks, same

yt = client()
other = client()

CONFLICT = 402


def check_exclusive():
    yt.create("map_node", "//tmp/exclusive")
    with yt.Transaction():
        lock = yt.lock("//tmp/exclusive")
        holds(lock, "a lock has an id")
        with other.Transaction():
            with refused(code=CONFLICT):
                other.lock("//tmp/exclusive")
            with refused(code=CONFLICT):
                other.lock("//tmp/exclusive", mode="shared")
            other.lock("//tmp/exclusive", mode="snapshot")
        with refused(code=CONFLICT):
            other.set("//tmp/exclusive/@a", 1)
        with refused(code=CONFLICT):
            other.remove("//tmp/exclusive")
        yt.set("//tmp/exclusive/@mine", 1)
    same(other.get("//tmp/exclusive/@mine"), 1)
    with other.Transaction():
        other.lock("//tmp/exclusive")


def check_shared():
    yt.create("map_node", "//tmp/shared")
    with yt.Transaction(), other.Transaction():
        yt.lock("//tmp/shared", mode="shared")
        other.lock("//tmp/shared", mode="shared")
        with refused(code=CONFLICT):
            other.lock("//tmp/shared", mode="exclusive")


def check_keys():
    yt.create("map_node", "//tmp/keys")
    with yt.Transaction(), other.Transaction():
        yt.lock("//tmp/keys", mode="shared", child_key="a")
        other.lock("//tmp/keys", mode="shared", child_key="b")
        with refused(code=CONFLICT):
            other.lock("//tmp/keys", mode="shared", child_key="a")
        yt.lock("//tmp/keys", mode="shared", attribute_key="x")
        other.lock("//tmp/keys", mode="shared", attribute_key="y")
        with refused(code=CONFLICT):
            other.lock("//tmp/keys", mode="shared", attribute_key="x")


def check_implicit_locks():
    yt.create("map_node", "//tmp/implicit")
    with yt.Transaction():
        yt.create("map_node", "//tmp/implicit/mine")
        # Another child is free, the same one is not.
        other.create("map_node", "//tmp/implicit/theirs")
        with refused(code=CONFLICT):
            other.create("map_node", "//tmp/implicit/mine")
        yt.set("//tmp/implicit/@mine", 1)
        other.set("//tmp/implicit/@theirs", 1)
        with refused(code=CONFLICT):
            other.set("//tmp/implicit/@mine", 2)
    same(sorted(yt.list("//tmp/implicit")), ["mine", "theirs"])


def check_snapshot():
    yt.create("document", "//tmp/snapshot", attributes={"value": "before"})
    with yt.Transaction():
        yt.lock("//tmp/snapshot", mode="snapshot")
        other.set("//tmp/snapshot", "after")
        same(yt.get("//tmp/snapshot"), "before")
        same(other.get("//tmp/snapshot"), "after")
    same(yt.get("//tmp/snapshot"), "after")


def check_waitable():
    yt.create("map_node", "//tmp/waitable")
    first = yt.start_transaction(timeout=60000)
    second = yt.start_transaction(timeout=60000)
    with yt.Transaction(transaction_id=first):
        yt.lock("//tmp/waitable")
    with yt.Transaction(transaction_id=second):
        lock = yt.lock("//tmp/waitable", waitable=True)
        lock = lock["lock_id"] if isinstance(lock, dict) else lock
        same(yt.get(f"#{lock}/@state"), "pending")
    yt.abort_transaction(first)
    with yt.Transaction(transaction_id=second):
        same(yt.get(f"#{lock}/@state"), "acquired")
        yt.set("//tmp/waitable/@holder", "second")
    yt.commit_transaction(second)
    same(yt.get("//tmp/waitable/@holder"), "second")


def check_wait_for():
    yt.create("map_node", "//tmp/wait_for")
    holder = yt.start_transaction(timeout=1000)
    with yt.Transaction(transaction_id=holder):
        yt.lock("//tmp/wait_for")
    # The holder is not pinged, so the lock comes when its time is over.
    with other.Transaction():
        other.lock("//tmp/wait_for", waitable=True, wait_for=30000)


def check_unlock():
    yt.create("map_node", "//tmp/unlock")
    with yt.Transaction():
        yt.lock("//tmp/unlock")
        yt.unlock("//tmp/unlock")
        with other.Transaction():
            other.lock("//tmp/unlock")


def check_locks_are_listed():
    yt.create("map_node", "//tmp/listed")
    same(yt.get("//tmp/listed/@lock_mode"), "none")
    with yt.Transaction() as transaction:
        yt.lock("//tmp/listed")
        locks = other.get("//tmp/listed/@locks")
        same([lock["mode"] for lock in locks], ["exclusive"])
        same(locks[0]["transaction_id"], transaction.transaction_id)


def check_lock_needs_a_transaction():
    yt.create("map_node", "//tmp/none")
    with refused():
        yt.lock("//tmp/none")


run_checks(globals())
