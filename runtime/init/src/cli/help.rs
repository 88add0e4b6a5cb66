//! The texts of `--help`, 80 columns wide.

/// What help is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The program as a whole.
    Program,
    /// `check`.
    Check,
    /// `save-env`.
    SaveEnv,
}

impl Topic {
    /// The text.
    pub fn text(self) -> &'static str {
        match self {
            Self::Program => PROGRAM,
            Self::Check => CHECK,
            Self::SaveEnv => SAVE_ENV,
        }
    }
}

const PROGRAM: &str = "\
tractorun-init: the first process of a container

Usage:
  tractorun-init [-g] [--metrics ADDRESS:PORT] -- COMMAND [ARGUMENT]...
  TRACTORUN_JOB_SPEC=FILE tractorun-init
  tractorun-init check [--json]
  tractorun-init save-env [--to FILE] [--with NAME]... [--without NAME]...
  tractorun-init --help | --version

As the init of a container (an image's ENTRYPOINT) it runs COMMAND with its own
streams and environment, hands every signal on to it, reaps orphans, and exits
with COMMAND's exit code. What COMMAND leaves behind gets SIGTERM and, a second
later, SIGKILL.

With TRACTORUN_JOB_SPEC it is one node of a distributed job: it finds the other
nodes, starts the workers, carries their output, and stops everything on all
nodes when one of them fails. The launcher, tractorun, starts it so.

With `check` it says what the machine offers to a job. With `save-env`, in a
Dockerfile, it keeps the image's environment for its jobs. `tractorun-init check
--help` and `tractorun-init save-env --help` say more.

Options:
  -g, --group          hand signals on to COMMAND's process group instead of
                       COMMAND alone
      --metrics ADDRESS:PORT
                       serve /metrics, /healthz and /status over HTTP there
  -h, --help           print this
  -V, --version        print the version

Environment:
  TRACTORUN_JOB_SPEC   path of the job spec, a JSON document
  TRACTORUN_LOG_LEVEL  error, warn, info, debug or trace; default: info in a
                       job, warn else
  TRACTORUN_METRICS    ADDRESS:PORT, as --metrics; in a job the last port that
                       the cluster gave serves metrics
  TRACTORUN_IMAGE_ENV  in a job, the file that save-env wrote; default:
                       /etc/tractorun/env; empty: none
  TRACTORUN_LIFELINE   `stdin`: in a job, stop in order when standard input ends

Exit codes:
  0        COMMAND, or every worker of the job, exited with 0
  1-125    exit code of COMMAND, or of the first worker that failed
  126      COMMAND could not be executed
  127      COMMAND was not found
  128 + n  COMMAND, or the first worker that failed, was killed by signal n; or
           init was stopped by it
  64       bad usage, job spec, environment or bind
  70       a fault of tractorun-init itself
  201      the other nodes were not found in time
  202      the machine has too little for the job, such as too few GPUs
  203      a node of the job was lost
  205      the cluster took a node of the job away
  206      all workers exited with 0, but some lines could not be written to the
           log tables
";

const CHECK: &str = "\
Usage: tractorun-init check [--json]

Says what this machine offers to the workers of a job: GPUs, CPUs, memory,
/dev/shm, the job's ports, what the image has kept for it, and the cluster in
YT_PROXY. It changes nothing.

Options:
      --json  print JSON
  -h, --help  print this

Exit codes:
  0    a job can run here
  202  no job can run here; what is missing is marked `failed`
";

const SAVE_ENV: &str = "\
Usage: tractorun-init save-env [--to FILE] [--with NAME]... [--without NAME]...

In a Dockerfile, below the last ENV, it keeps the environment of the image for
its jobs, since YTsaurus passes an image's ENV to no job:
  RUN [\"/usr/local/bin/tractorun-init\", \"save-env\"]

Left out are a process's own variables (HOME, PWD, ...), YT_* and TRACTORUN_*,
the builder's proxies, and what looks like a secret: names such as *_TOKEN,
*_PASSWORD, *_KEY, and URLs with a password. An ARG above it is kept like an
ENV: put it below, or name it. In a job the job's own variables win, but for a
PATH of system folders alone, which is only bash's default.

Options:
      --to FILE       where to keep it; default: /etc/tractorun/env
      --with NAME     keep that variable though it looks like a secret
      --without NAME  leave that variable out
  -h, --help          print this
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fit_80_columns() {
        for topic in [Topic::Program, Topic::Check, Topic::SaveEnv] {
            let longest = topic.text().lines().max_by_key(|line| line.len()).unwrap_or_default();
            assert!(longest.len() <= 80, "{longest}");
        }
    }
}
