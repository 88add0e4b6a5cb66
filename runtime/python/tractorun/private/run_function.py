"""What a worker of a pickled function runs: `python3 -m tractorun.private.run_function <folder>`."""

from __future__ import annotations

import sys
from pathlib import Path

from tractorun.private.function import unpack_function
from tractorun.run import prepare_and_get_toolbox


def main() -> None:
    """Prepares the backend and calls the function with the toolbox."""
    (folder,) = sys.argv[1:]
    function, backend = unpack_function(Path(folder))
    function(prepare_and_get_toolbox(backend=backend))


if __name__ == "__main__":
    main()
