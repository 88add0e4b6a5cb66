//! What runs, and where its traces are.

use super::{GivenIn::Both, Notation::Text, OptionSpec, Takes::One, option};

/// In the order `--help` shows them.
pub(super) static OPTIONS: [OptionSpec; 5] = [
    option(
        "yt-path",
        "yt_path",
        Both,
        One("PATH", Text),
        "Directory on the cluster for all runs of one model (default: a new one in //tmp/tractorun)",
    ),
    option(
        "docker-image",
        "docker_image",
        Both,
        One("IMAGE", Text),
        "Docker image of the job (default: $YT_BASE_LAYER, then $YT_JOB_DOCKER_IMAGE)",
    ),
    option(
        "init",
        "init",
        Both,
        One("bring|image", Text),
        "Whose tractorun-init the nodes run: the launcher brings its own (bring, default), or the image has one (image)",
    ),
    option(
        "docker-auth-secret.cypress-path",
        "docker_auth_secret.cypress_path",
        Both,
        One("PATH", Text),
        "Cypress document with the credentials for a private registry",
    ),
    option("title", "title", Both, One("TEXT", Text), "Operation's title (default: Tractorun <yt-path>)"),
];
