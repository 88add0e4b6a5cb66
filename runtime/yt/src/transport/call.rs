//! What to send: a command, its parameters, its input.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ytsaurus_yson::{YsonError, YsonFormat, YsonNode, YsonValue};

use super::retry::Repeat;
use crate::client::Scope;
use crate::value::{boolean, list, string, with_attributes};

/// How a command's parameters travel, which follows from what it takes and does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// It takes no input and changes nothing.
    Get,
    /// It takes no input and changes something.
    Post,
    /// It takes input.
    Put,
}

/// A command to be sent, perhaps several times.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) command: &'static str,
    pub(crate) method: Method,
    pub(crate) parameters: Parameters,
    pub(crate) repeat: Repeat,
    /// The value of `set`, in binary YSON.
    pub(crate) input: Option<Bytes>,
    /// Whether a mutation id makes it safe to repeat.
    pub(crate) deduplicated: bool,
    /// Time for one try, where it is not the configured one.
    pub(crate) timeout: Option<Duration>,
}

impl Call {
    /// A command that only reads.
    pub(crate) fn read(command: &'static str) -> Self {
        Self {
            command,
            method: Method::Get,
            parameters: Parameters::default(),
            repeat: Repeat::Freely,
            input: None,
            deduplicated: false,
            timeout: None,
        }
    }

    /// A command that changes something, once however often it is sent.
    pub(crate) fn mutate(command: &'static str) -> Self {
        Self { method: Method::Post, deduplicated: true, ..Self::read(command) }
    }

    /// A command that changes something and that the cluster does not deduplicate: sent again, it finds that
    /// what it wants is the case already.
    pub(crate) fn assign(command: &'static str) -> Self {
        Self { method: Method::Post, ..Self::read(command) }
    }

    /// The same with a parameter more.
    pub(crate) fn with(mut self, name: &str, value: YsonValue) -> Self {
        self.parameters.set(name, value);
        self
    }

    /// The same with a parameter more that is left out where it says nothing.
    pub(crate) fn with_flag(self, name: &str, flag: bool) -> Self {
        if flag { self.with(name, boolean(true)) } else { self }
    }

    /// The same inside the client's transaction and under its prerequisites.
    pub(crate) fn scoped(mut self, scope: &Scope) -> Self {
        self.parameters.enter(scope);
        self
    }

    /// The same with another limit for one try.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    pub(crate) fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }
}

/// The parameters of a command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters(BTreeMap<Vec<u8>, YsonValue>);

impl Parameters {
    pub(crate) fn set(&mut self, name: &str, value: YsonValue) {
        self.0.insert(name.as_bytes().to_vec(), value);
    }

    /// Adds transaction and prerequisites; what is there already wins.
    pub(crate) fn enter(&mut self, scope: &Scope) {
        if let Some(id) = &scope.transaction {
            self.0.entry(b"transaction_id".to_vec()).or_insert_with(|| string(id.as_str()));
        }
        if !scope.prerequisites.is_empty() {
            self.0
                .entry(b"prerequisite_transaction_ids".to_vec())
                .or_insert_with(|| list(scope.prerequisites.iter().map(|id| string(id.as_str()))));
        }
    }

    pub(crate) fn to_value(&self) -> YsonValue {
        YsonValue { attributes: None, node: YsonNode::Map(self.0.clone()) }
    }

    /// Text YSON of ASCII alone, on one line: fit for a header.
    pub(crate) fn to_text(&self) -> Result<Vec<u8>, YsonError> {
        let text = ytsaurus_yson::to_vec(&self.to_value(), YsonFormat::Text)?;
        // Bytes outside printable ASCII are only found inside quotes, where an escape means the same.
        let mut ascii = Vec::with_capacity(text.len());
        for byte in text {
            match byte {
                b' '..=b'~' => ascii.push(byte),
                _ => ascii.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            }
        }
        Ok(ascii)
    }
}

/// `<format=binary>yson`, for data in either direction.
pub(crate) fn binary_yson() -> YsonValue {
    with_attributes(string("yson"), [("format", string("binary"))])
}

/// A new id: four groups of 32 random bits.
pub(crate) fn new_guid() -> String {
    let [a, b, c, d]: [u32; 4] = rand::random();
    format!("{a:x}-{b:x}-{c:x}-{d:x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::TransactionId;
    use crate::value::{bytes, int, map};

    #[test]
    fn parameters_are_one_line_of_ascii_that_reads_back() {
        let mut parameters = Parameters::default();
        parameters.set("path", string("//tmp/caf\u{e9} \"\\\n\u{7f}1"));
        parameters.set("raw", bytes(*b"\x00\xff7"));
        parameters.set("format", binary_yson());
        parameters.set("deep", list([map([("a", int(-1))])]));
        let text = parameters.to_text().unwrap();
        assert!(text.iter().all(|byte| (b' '..=b'~').contains(byte)), "{}", String::from_utf8_lossy(&text));
        let read: YsonValue = ytsaurus_yson::from_slice(&text, YsonFormat::Text).unwrap();
        assert_eq!(read, parameters.to_value());
    }

    #[test]
    fn a_scope_adds_what_the_call_does_not_say_itself() {
        let scope = Scope {
            transaction: Some(TransactionId::new("1-2-3-4")),
            prerequisites: vec![TransactionId::new("5-6-7-8")],
        };
        let text = |call: Call| String::from_utf8(call.scoped(&scope).parameters.to_text().unwrap()).unwrap();
        assert_eq!(
            text(Call::read("get").with("path", string("//x"))),
            r#"{path="//x";prerequisite_transaction_ids=["5-6-7-8"];transaction_id="1-2-3-4"}"#
        );
        assert_eq!(
            text(Call::mutate("start_transaction").with("transaction_id", string("9-9-9-9"))),
            r#"{prerequisite_transaction_ids=["5-6-7-8"];transaction_id="9-9-9-9"}"#
        );
    }

    #[test]
    fn guids_have_four_groups() {
        let guid = new_guid();
        assert_eq!(
            guid.split('-').filter(|group| u32::from_str_radix(group, 16).is_ok()).count(),
            4,
            "{guid}"
        );
        assert_ne!(guid, new_guid());
    }
}
