"""Log lines of this package, as `YT_LOG_LEVEL` asks for them."""

from __future__ import annotations

import logging
import os


def setup_logging() -> None:
    """Shows log lines of the level in `YT_LOG_LEVEL`; does nothing where it is not set or the script has its own way."""
    level = os.environ.get("YT_LOG_LEVEL", "").upper()
    logger = logging.getLogger("tractorun")
    if not level or logger.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level)
