"""What tractorun raises. All of it is a `BaseTractorunException`."""

from __future__ import annotations

from typing import Optional

from yt.wrapper.errors import YtOperationFailedError

__all__ = [
    "BaseTractorunException",
    "DockerAuthDataError",
    "RunFailedError",
    "StderrReaderError",
    "TractorunBootstrapError",
    "TractorunConfigError",
    "TractorunConfigurationError",
    "TractorunVersionMismatchError",
    "TractorunWandbError",
]


class BaseTractorunException(Exception):
    """Any error of tractorun."""


class StderrReaderError(BaseTractorunException):
    """A job's stderr cannot be read."""


class TractorunBootstrapError(BaseTractorunException):
    """The process was not started as a worker of a job."""


class TractorunConfigError(BaseTractorunException):
    """A run config cannot be used."""


class TractorunVersionMismatchError(BaseTractorunException):
    """Two sides of a run do not fit together, such as the Python of the laptop and that of the image."""


class TractorunConfigurationError(BaseTractorunException):
    """The parameters of a run cannot be used."""


class TractorunWandbError(BaseTractorunException):
    """Kept for scripts that name it; nothing raises it."""


class DockerAuthDataError(BaseTractorunException):
    """Credentials for a Docker registry cannot be used."""


class RunFailedError(BaseTractorunException, YtOperationFailedError):  # type: ignore[misc]
    """A run was started and did not succeed.

    Also the error that the YT client raises for a failed operation, so that scripts which catch that one go on working.
    """

    def __init__(self, operation_id: Optional[str], state: str, exit_code: int, error: Optional[object] = None) -> None:
        YtOperationFailedError.__init__(self, id=operation_id, state=state, error=error, stderrs=[], url=None)
        self.operation_id = operation_id
        self.state = state
        # Of the launcher: the first failed worker's own, or one that tractorun reserves.
        self.exit_code = exit_code
