"""Where the workers' output goes."""

from __future__ import annotations

import enum

__all__ = ["OperationLogMode"]


class OperationLogMode(str, enum.Enum):
    """`default`: to the jobs' stderr. `realtime_yt_table`: also to tables in `<yt_path>/logs`."""

    default = "default"
    realtime_yt_table = "realtime_yt_table"
