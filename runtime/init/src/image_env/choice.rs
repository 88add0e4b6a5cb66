//! Which variables of a build are an image's to keep. No IO.

use std::ffi::OsStr;

use tractorun_contract::env::gpu;

use super::Save;

/// What becomes of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// It is saved.
    Keep,
    /// It is left out, and that is told: it may be a secret.
    Suspect,
    /// It is left out.
    LeaveOut,
}

/// Where a process stands and who it is: a job has its own of these.
const OF_THE_PROCESS: [&str; 19] = [
    "_",
    "HOME",
    "HOSTNAME",
    "LOGNAME",
    "MAIL",
    "OLDPWD",
    "PWD",
    "SHELL",
    "SHLVL",
    "TEMP",
    "TERM",
    "TMP",
    "TMPDIR",
    "USER",
    "container",
    // Which GPUs there are is the machine's to say. Images of CUDA say `all`.
    gpu::CUDA_VISIBLE_DEVICES,
    gpu::HIP_VISIBLE_DEVICES,
    gpu::NVIDIA_VISIBLE_DEVICES,
    gpu::ROCR_VISIBLE_DEVICES,
];

/// What a builder adds to its commands without being asked: these are no `ENV`, and its proxy is not the job's.
const OF_THE_BUILDER: [&str; 6] =
    ["ALL_PROXY", "FTP_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SOURCE_DATE_EPOCH"];

/// The cluster's and our own.
const PREFIXES_OF_THE_JOB: [&str; 3] = ["YT_", "TRACTO_", "TRACTORUN_"];

/// Words of a name, between underscores, that tell of a secret.
const SECRET_WORDS: [&str; 13] = [
    "APIKEY",
    "AUTH",
    "CREDENTIAL",
    "CREDENTIALS",
    "KEY",
    "PASS",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "SECRET",
    "SECRETS",
    "TOKEN",
    "TOKENS",
];

/// Decides about one variable.
pub(super) fn choose(name: &OsStr, value: &OsStr, save: &Save) -> Choice {
    let is_asked = |names: &[std::ffi::OsString]| names.iter().any(|asked| asked == name);
    if is_asked(&save.without) || is_of_the_job(name) {
        Choice::LeaveOut
    } else if !is_asked(&save.with) && (is_secret_name(name) || holds_password(value)) {
        Choice::Suspect
    } else {
        Choice::Keep
    }
}

/// Whether a variable is the job's or the builder's and never the image's.
pub(super) fn is_of_the_job(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    OF_THE_PROCESS.contains(&&*name)
        || OF_THE_BUILDER.contains(&&*name.to_ascii_uppercase())
        || PREFIXES_OF_THE_JOB.iter().any(|prefix| name.starts_with(prefix))
}

fn is_secret_name(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_ascii_uppercase();
    name.split(['_', '-', '.']).any(|word| SECRET_WORDS.contains(&word))
}

/// Whether there is a URL with a password, as in `https://user:password@host/simple`.
fn holds_password(value: &OsStr) -> bool {
    let value = value.to_string_lossy();
    value.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn choice_of(name: &str, value: &str) -> Choice {
        let save = Save { to: PathBuf::new(), with: vec!["MY_TOKEN".into()], without: vec!["BUILD".into()] };
        choose(name.as_ref(), value.as_ref(), &save)
    }

    #[test]
    fn what_an_image_is_about_is_kept() {
        for (name, value) in [
            ("PATH", "/opt/venv/bin:/usr/bin"),
            ("LD_LIBRARY_PATH", "/usr/local/cuda/lib64"),
            ("CUDA_HOME", "/usr/local/cuda"),
            ("VIRTUAL_ENV", "/opt/venv"),
            ("TOKENIZERS_PARALLELISM", "false"),
            ("MONKEY", "x"),
            ("PIP_INDEX_URL", "https://pypi.example.com:8443/simple"),
            ("CONTACT", "https://example.com/?to=a:b@example.com"),
            ("NVIDIA_DRIVER_CAPABILITIES", "compute,utility"),
            ("MY_TOKEN", "asked for"),
            ("EMPTY", ""),
        ] {
            assert_eq!(choice_of(name, value), Choice::Keep, "{name}={value}");
        }
    }

    #[test]
    fn what_may_be_secret_is_left_out_and_told() {
        for (name, value) in [
            ("HF_TOKEN", "x"),
            ("hf_token", "x"),
            ("NPM_CONFIG_AUTH", "x"),
            ("DB_PASSWORD", "x"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("WANDB_API_KEY", "x"),
            ("SSH_AUTH_SOCK", "/run/agent"),
            ("PIP_INDEX_URL", "https://me:hidden@pypi.example.com/simple"),
            ("MIRRORS", "http://a http://me:hidden@b"),
        ] {
            assert_eq!(choice_of(name, value), Choice::Suspect, "{name}={value}");
        }
    }

    #[test]
    fn what_is_the_jobs_or_the_builders_is_left_out() {
        for name in [
            "HOME",
            "HOSTNAME",
            "PWD",
            "SHLVL",
            "TERM",
            "TMPDIR",
            "_",
            "container",
            "NVIDIA_VISIBLE_DEVICES",
            "https_proxy",
            "HTTPS_PROXY",
            "SOURCE_DATE_EPOCH",
            "YT_PROXY",
            "YT_TOKEN",
            "TRACTORUN_JOB_SPEC",
            "TRACTO_CONFIG",
            "BUILD",
        ] {
            assert_eq!(choice_of(name, "x"), Choice::LeaveOut, "{name}");
        }
    }
}
