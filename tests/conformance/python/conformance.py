"""What the scripts share: a client for the cluster in YT_PROXY, and checks that say what was found."""

import contextlib
import os

import yt.wrapper as yt
from yt.wrapper import YtClient

API_VERSION = os.environ.get("API_VERSION", "v4")
# `yson` (binary, as the client chooses by itself with the YSON bindings) or `json` (as it does without them).
FORMAT = os.environ.get("STRUCTURED_FORMAT", "yson")
# Set on a cluster that is not the run's own: what is left behind stays below it.
ROOT = os.environ.get("CONFORMANCE_ROOT")
# Names of checks that do not hold there.
LEFT_OUT = os.environ.get("CONFORMANCE_LEFT_OUT", "").split()


def client(**config):
    """A client with few retries, so that a fault shows at once."""
    return YtClient(
        proxy=os.environ["YT_PROXY"],
        config={
            "api_version": API_VERSION,
            "token": os.environ.get("YT_TOKEN"),
            "proxy": {"retries": {"count": 2}},
            "structured_data_format": yt.YsonFormat(format="binary") if FORMAT == "yson" else yt.JsonFormat(),
            "operation_tracker": {"poll_period": 50, "stderr_logging_level": "INFO"},
            **({"remote_temp_files_directory": f"{ROOT}/file_storage"} if ROOT else {}),
            **config,
        },
    )


def same(found, wanted):
    """The two are equal."""
    if found != wanted:
        raise AssertionError(f"found {found!r}, wanted {wanted!r}")


def holds(condition, what):
    """The condition holds; `what` names it."""
    if not condition:
        raise AssertionError(what)


@contextlib.contextmanager
def refused(text=None, code=None):
    """The cluster refuses what is done inside, with this text or code in its error."""
    try:
        yield
    except yt.YtError as error:
        if text is not None and text not in str(error):
            raise AssertionError(f"no {text!r} in {error}") from error
        if code is not None and not error.contains_code(code):
            raise AssertionError(f"no code {code} in {error}") from error
        return
    raise AssertionError(f"it was not refused, wanted: {text or code}")


def run_checks(namespace):
    """Calls every function named check_*, in the order they are written."""
    checks = [value for name, value in namespace.items() if name.startswith("check_")]
    holds(checks, "a script without checks")
    unknown = set(LEFT_OUT) - {check.__name__ for check in checks}
    holds(not unknown, f"no such checks to leave out: {unknown}")
    for check in checks:
        if check.__name__ in LEFT_OUT:
            continue
        print(check.__name__, flush=True)
        check()
    print("all checks passed", flush=True)
