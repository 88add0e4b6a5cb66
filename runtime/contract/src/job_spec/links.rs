//! Links to the cluster's web interface.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// How links to the cluster's web interface look, as the cluster's tractorun configuration says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Links {
    /// URL of a Cypress node, `{path}` standing for its path.
    pub cypress_link_template: Option<String>,
    /// URL of a job's stderr, `{operation_id}` and `{job_id}` standing for these.
    pub job_stderr_link_template: Option<String>,
}

// === impl Links ===

impl Links {
    /// Whether the cluster says nothing about links.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// URL of the Cypress node of that path.
    pub fn of_node(&self, path: &str) -> Option<String> {
        Some(self.cypress_link_template.as_ref()?.replace("{path}", &quote(path)))
    }

    /// URL of the stderr of that job.
    pub fn of_stderr(&self, operation_id: &str, job_id: &str) -> Option<String> {
        let template = self.job_stderr_link_template.as_ref()?;
        Some(template.replace("{operation_id}", &quote(operation_id)).replace("{job_id}", &quote(job_id)))
    }
}

/// A text as a part of a URL: as Python's `urllib.parse.quote` does it, slashes stay.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' | b'/' => {
                quoted.push(char::from(byte));
            }
            // Writing to a string does not fail.
            _ => drop(write!(quoted, "%{byte:02X}")),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_a_template_is_quoted_as_python_does_it() {
        let links = Links {
            cypress_link_template: Some("https://ui/navigation?path={path}".into()),
            job_stderr_link_template: Some("https://ui/{operation_id}/{job_id}/stderr".into()),
        };
        assert_eq!(
            links.of_node("//tmp/a b/\u{e4}&c=~1").unwrap(),
            "https://ui/navigation?path=//tmp/a%20b/%C3%A4%26c%3D~1"
        );
        assert_eq!(links.of_stderr("1-2-3-4", "5-6-7-8").unwrap(), "https://ui/1-2-3-4/5-6-7-8/stderr");
        let none = Links::default();
        assert_eq!((none.of_node("//tmp"), none.of_stderr("1", "2")), (None, None));
    }
}
