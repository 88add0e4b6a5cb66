//! The way to the cluster: the proxy's addresses, TLS, clocks, and the proxies that move data.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tractorun_yt::probe::{self, Greeting, Refusal, Way};
use tractorun_yt::{Client, ClientConfig};

use super::finding::Finding;

/// Clocks that differ by more than this make times of log lines hard to compare.
const NOTABLE_SKEW: Duration = Duration::from_secs(2);

/// Clocks that differ by more than this break TLS and every lifetime that is given as a time.
const FATAL_SKEW: Duration = Duration::from_mins(1);

/// Proxies that move data and are greeted; a client chooses among the first of them.
const GREETED: usize = 5;

/// How the way to the proxy is.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    pub(super) findings: Vec<Finding>,
    /// The answer of the proxy as a client would get it, if it gets one.
    pub(super) greeting: Option<Greeting>,
}

/// Looks at the way to the proxy.
pub(super) async fn reach(config: &ClientConfig) -> Reach {
    let as_client = probe::greet(config, Way::AsClientsGo);
    let (as_client, each) = futures_util::join!(as_client, each_address(config));
    let as_client = match as_client {
        Ok(answer) => answer,
        Err(error) => return Reach { findings: vec![Finding::wrong("proxy", error)], greeting: None },
    };
    let mut findings = vec![proxy(&config.proxy, &as_client, &each)];
    findings.extend(tls(config, &as_client));
    Reach { findings, greeting: as_client.ok() }
}

type Answer = Result<Greeting, Refusal>;

/// What each address says; the error is why there are none.
type Each = Result<Vec<(SocketAddr, Answer)>, String>;

async fn each_address(config: &ClientConfig) -> Each {
    let addresses = probe::addresses(config).await?;
    let answers = join_all(addresses.into_iter().map(|address| async move {
        let answer = probe::greet(config, Way::To(address)).await;
        (address, answer.unwrap_or_else(|error| Err(Refusal::Strange(error.to_string()))))
    }));
    Ok(answers.await)
}

fn proxy(url: &str, as_client: &Answer, each: &Each) -> Finding {
    let addresses = match each {
        Ok(each) => each.as_slice(),
        Err(_) => &[],
    };
    let silent: Vec<_> =
        addresses.iter().filter_map(|(at, answer)| Some((at, answer.as_ref().err()?))).collect();
    let told = silent.iter().fold(String::new(), |mut told, (address, refusal)| {
        let separator = if told.is_empty() { "" } else { "; " };
        // Writing to a string does not fail.
        let _ = write!(told, "{separator}{}: {refusal}", address.ip());
        told
    });
    match (as_client, each) {
        (Ok(greeting), Err(reason)) => Finding::fine(
            "proxy",
            format!(
                "{url} answers{} (its name does not resolve here: {reason}; something between does that)",
                in_time(greeting)
            ),
        ),
        (Ok(greeting), Ok(_)) if silent.is_empty() => {
            let ips: Vec<_> = addresses.iter().map(|(address, _)| address.ip().to_string()).collect();
            let at = if url.contains(ips.first().map_or("", String::as_str)) {
                String::new()
            } else {
                format!(" at {}", ips.join(", "))
            };
            Finding::fine("proxy", format!("{url} answers{at}{}", in_time(greeting)))
        }
        (Ok(greeting), Ok(_)) if silent.len() == addresses.len() => Finding::fine(
            "proxy",
            format!("{url} answers{} (not straight from here: {told})", in_time(greeting)),
        ),
        (Ok(greeting), Ok(_)) => {
            let time = in_time(greeting);
            // A machine without IPv6 passes over all such addresses.
            let whole_family = silent.iter().all(|(address, _)| {
                let mut family = addresses.iter().filter(|(other, _)| other.is_ipv4() == address.is_ipv4());
                family.all(|(_, answer)| answer.is_err())
            });
            if whole_family {
                Finding::fine("proxy", format!("{url} answers{time} (not at {told})"))
            } else {
                let text = format!("{url} answers{time}, but not at each of its addresses: {told}");
                Finding::doubtful("proxy", text)
            }
        }
        (Err(Refusal::Tls(_)), _) => Finding::fine("proxy", format!("{url} takes connections")),
        (Err(refusal), Err(reason)) => {
            let reason = match refusal {
                Refusal::Unreachable(_) => format!("its name does not resolve: {reason}"),
                other => other.to_string(),
            };
            Finding::wrong("proxy", format!("{url} cannot be reached: {reason}")).hint(hint(refusal))
        }
        (Err(refusal), Ok(_)) => {
            let reason = if told.is_empty() { refusal.to_string() } else { told };
            let what = match refusal {
                Refusal::Unreachable(_) => "cannot be reached",
                _ => "does not serve",
            };
            Finding::wrong("proxy", format!("{url} {what}: {reason}")).hint(hint(refusal))
        }
    }
}

fn in_time(greeting: &Greeting) -> String {
    format!(" in {} ms", greeting.took.as_millis())
}

fn hint(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Unreachable(_) => "check YT_PROXY, and whether this machine needs a VPN to connect to it",
        Refusal::Silent(_) | Refusal::Unavailable(_) | Refusal::Tls(_) => {
            "try again later, or ask whoever runs the cluster"
        }
        Refusal::Strange(_) => {
            "check that YT_PROXY names an HTTP proxy of the cluster, not its web interface"
        }
    }
}

fn tls(config: &ClientConfig, as_client: &Answer) -> Option<Finding> {
    match as_client {
        Err(Refusal::Tls(cause)) => Some(
            Finding::wrong("tls", cause)
                .hint("YT_CA_BUNDLE names a file with the roots of a private certificate authority"),
        ),
        Ok(_) if config.proxy.starts_with("https:") => {
            let roots = match &config.ca_bundle {
                Some(path) => format!("the roots in `{}`", path.display()),
                None => "this system's roots".to_owned(),
            };
            Some(Finding::fine("tls", format!("the proxy's certificate is trusted by {roots}")))
        }
        Ok(_) => Some(Finding::fine("tls", "none: YT_PROXY says http, so nothing on the way is encrypted")),
        Err(_) => None,
    }
}

/// Compares this machine's clock to the cluster's. Without a `Date` of the proxy the cluster itself is asked.
pub(super) async fn clock(greeting: &Greeting, client: Option<&Client>) -> Finding {
    let clocks = match (greeting.clocks, client) {
        (Some(clocks), _) => Some(clocks),
        (None, Some(client)) => {
            let theirs = client.cluster_time().await.ok();
            theirs.map(|theirs| (theirs + Duration::from_millis(500), SystemTime::now()))
        }
        (None, None) => None,
    };
    match clocks {
        Some((theirs, ours)) => compare(theirs, ours),
        None => Finding::left_out("clock", "the cluster does not tell its time"),
    }
}

fn compare(theirs: SystemTime, ours: SystemTime) -> Finding {
    let (difference, direction) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let text = format!("this machine's clock is {:.0} s {direction} the cluster's", difference.as_secs_f64());
    let hint = "set this machine's clock: times of log lines, `--since` and certificates go by it";
    // The cluster's time is known to the second.
    if difference <= Duration::from_secs(1) {
        Finding::fine("clock", "this machine's clock and the cluster's agree to the second")
    } else if difference <= NOTABLE_SKEW {
        Finding::fine("clock", text)
    } else if difference <= FATAL_SKEW {
        Finding::doubtful("clock", text).hint(hint)
    } else {
        Finding::wrong("clock", text).hint(hint)
    }
}

/// Greets the proxies that uploads go to.
pub(super) async fn heavy_proxies(config: &ClientConfig, client: &Client) -> Finding {
    if !config.proxy_discovery {
        return Finding::fine("uploads", "go to the proxy itself, as YT_USE_HOSTS says");
    }
    let Some(urls) = client.heavy_proxies().await.filter(|urls| !urls.is_empty()) else {
        return Finding::fine("uploads", "go to the proxy itself: the cluster names no other");
    };
    let greeted = join_all(urls.iter().take(GREETED).map(|url| async move {
        let config = ClientConfig { proxy: url.clone(), ..config.clone() };
        let answer = probe::greet(&config, Way::AsClientsGo).await;
        (
            url,
            answer
                .map_err(|error| error.to_string())
                .and_then(|answer| answer.map_err(|error| error.to_string())),
        )
    }))
    .await;
    let silent: Vec<_> = greeted
        .iter()
        .filter_map(|(url, answer)| Some(format!("{url}: {}", answer.as_ref().err()?)))
        .collect();
    let (all, asked) = (urls.len(), greeted.len());
    match silent.len() {
        0 if all == 1 => Finding::fine("uploads", format!("go to {}, which answers", urls[0])),
        0 => {
            Finding::fine("uploads", format!("go to one of {all} proxies; the {asked} first of them answer"))
        }
        count if count == asked => {
            Finding::wrong("uploads", format!("no proxy that takes data answers: {}", silent.join("; ")))
                .hint("this machine must reach them too; YT_USE_HOSTS=0 sends data to YT_PROXY itself")
        }
        _ => Finding::doubtful(
            "uploads",
            format!("not every proxy that takes data answers: {}", silent.join("; ")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::finding::Outcome;
    use super::*;

    const GREETING: Greeting = Greeting { took: Duration::from_millis(3), clocks: None };

    fn at(address: &str, answer: Answer) -> (SocketAddr, Answer) {
        (address.parse().unwrap(), answer)
    }

    fn refused() -> Answer {
        Err(Refusal::Unreachable("connection refused".to_owned()))
    }

    #[test]
    fn every_address_that_does_not_answer_is_named() {
        let each = Ok(vec![at("10.0.0.1:80", Ok(GREETING)), at("10.0.0.2:80", refused())]);
        let finding = proxy("http://h", &Ok(GREETING), &each);
        assert_eq!(finding.outcome, Outcome::Doubtful);
        assert_eq!(
            finding.text,
            "http://h answers in 3 ms, but not at each of its addresses: 10.0.0.2: connection refused"
        );
        let each = Ok(vec![at("10.0.0.1:80", refused()), at("10.0.0.2:80", refused())]);
        let finding = proxy("http://h", &refused(), &each);
        assert_eq!(finding.outcome, Outcome::Wrong);
        assert_eq!(
            finding.text,
            "http://h cannot be reached: 10.0.0.1: connection refused; 10.0.0.2: connection refused"
        );
    }

    #[test]
    fn a_machine_without_ipv6_is_none_to_mend() {
        let each = Ok(vec![at("10.0.0.1:80", Ok(GREETING)), at("[2001:db8::1]:80", refused())]);
        assert_eq!(proxy("http://h", &Ok(GREETING), &each).outcome, Outcome::Fine);
    }

    #[test]
    fn what_goes_between_may_know_the_name_alone() {
        let finding = proxy("http://h", &Ok(GREETING), &Err("no such name".to_owned()));
        assert_eq!(finding.outcome, Outcome::Fine);
        let finding = proxy(
            "http://h",
            &Err(Refusal::Unreachable("its host name cannot be resolved".to_owned())),
            &Err("no such name".to_owned()),
        );
        assert_eq!(finding.text, "http://h cannot be reached: its name does not resolve: no such name");
        assert!(finding.hint.is_some_and(|hint| hint.starts_with("check YT_PROXY")));
    }

    #[test]
    fn clocks_are_compared_by_the_second() {
        let clock = |ours: u64, theirs: u64| {
            let time = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
            let finding = compare(time(theirs), time(ours));
            (finding.outcome, finding.text)
        };
        assert_eq!(clock(101, 100).0, Outcome::Fine);
        assert_eq!(
            clock(110, 100),
            (Outcome::Doubtful, "this machine's clock is 10 s ahead of the cluster's".to_owned())
        );
        assert_eq!(
            clock(100, 161),
            (Outcome::Wrong, "this machine's clock is 61 s behind the cluster's".to_owned())
        );
    }
}
