//! Network namespaces with a cable into them, for tests that cut it.

use std::net::Ipv4Addr;
use std::process::Command;

use crate::process::run;

/// A cable into a network namespace of its own, which ends with it.
pub struct Wire {
    /// Name of the namespace.
    pub name: String,
    /// Address of this end.
    pub here: String,
    /// Address of the end in the namespace.
    pub there: String,
}

impl Wire {
    /// Lays one. The error says what this machine does not allow.
    pub fn between_here_and_a_new_namespace() -> Result<Self, String> {
        let number = std::process::id();
        let name = format!("trw{number}");
        // A network of four addresses out of a block for such tests, different for tests at the same time.
        let [.., third, fourth] = number.to_be_bytes();
        let base = u32::from(Ipv4Addr::new(10, 231, third, fourth & !3));
        let address = |offset: u32| Ipv4Addr::from(base + offset).to_string();
        let wire = Self { here: address(1), there: address(2), name };
        let (here, there) = (format!("{}/30", wire.here), format!("{}/30", wire.there));
        let inner = format!("{}n", wire.name);
        let name = wire.name.as_str();
        for arguments in [
            &["netns", "add", name][..],
            &["link", "add", name, "type", "veth", "peer", "name", &inner, "netns", name],
            &["address", "add", &here, "dev", name],
            &["link", "set", name, "up"],
            &["-n", name, "address", "add", &there, "dev", &inner],
            &["-n", name, "link", "set", &inner, "up"],
            &["-n", name, "link", "set", "lo", "up"],
        ] {
            ip(arguments)?;
        }
        Ok(wire)
    }

    /// Nothing passes any more, and nobody is told.
    pub fn cut(&self) {
        ip(&["-n", &self.name, "link", "set", &format!("{}n", self.name), "down"])
            .expect("the cable is there");
    }

    /// It is as before the cut.
    pub fn mend(&self) {
        ip(&["-n", &self.name, "link", "set", &format!("{}n", self.name), "up"]).expect("the cable is there");
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // The cable goes with the namespace.
        let _ = ip(&["link", "delete", &self.name]);
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(arguments);
    if let Err(error) = Command::new("ip").arg("-V").output() {
        return Err(format!("cannot start `ip`: {error}"));
    }
    let finished = run(&mut command);
    if finished.code() == 0 { Ok(()) } else { Err(finished.show()) }
}
