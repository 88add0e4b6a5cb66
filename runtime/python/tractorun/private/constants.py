"""Names that the launcher, init and scripts agree on."""

from __future__ import annotations

# === Set for workers by tractorun-init ===

TRACTO_CONFIG_ENV_VAR: str = "TRACTO_CONFIG"
YT_USER_CONFIG_ENV_VAR: str = "YT_USER_CONFIG"

# === Read by the launcher ===

# Path of a file that gets the run's spec and id once the operation has started.
RUN_INFO_FILE_ENV_VAR: str = "TRACTORUN_RUN_INFO_FILE"

DEFAULT_CLUSTER_CONFIG_PATH: str = "//home/tractorun/config"

# === Parts of the operation's description ===

USER_DESCRIPTION_MANAGER_NAME: str = "extra"
TRACTORUN_DESCRIPTION_MANAGER_NAME: str = "tractorun"
