#!/usr/bin/env python3
"""The launcher, for those who start it by its old name: `python3 -m tractorun.cli.tractorun_runner`."""

from __future__ import annotations

import sys

from tractorun.exception import BaseTractorunException
from tractorun.private.launcher import exec_binary as _exec_binary


def main() -> None:
    """Becomes the launcher."""
    try:
        _exec_binary(sys.argv[1:])
    except BaseTractorunException as error:
        sys.exit(f"tractorun: {error}")


if __name__ == "__main__":
    main()
