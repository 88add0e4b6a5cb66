//! Which proxy moves data: one of those that `/hosts` names, else the configured one.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderValue};
use tokio::time::Instant;

use super::http::Transport;
use super::retry::TryError;
use super::stream::Incoming;

/// The list is asked for again after this long: it tells who is loaded least.
const FRESH: Duration = Duration::from_mins(1);
/// A proxy that failed is left alone for this long.
const BAN: Duration = Duration::from_mins(2);
/// Chosen among the first so many, which are loaded least.
const TOP: usize = 5;

/// What is known of the proxies that move data.
#[derive(Debug, Default)]
pub(crate) struct HeavyProxies {
    /// URLs, best first, and when they were asked for.
    known: Option<(Vec<String>, Instant)>,
    banned: HashMap<String, Instant>,
}

impl HeavyProxies {
    fn is_stale(&self, now: Instant) -> bool {
        self.known.as_ref().is_none_or(|(_, asked)| now.duration_since(*asked) > FRESH)
    }

    /// One of the best that are not banned; `roll` is a random number.
    fn choose(&mut self, now: Instant, roll: usize) -> Option<String> {
        self.banned.retain(|_, since| now.duration_since(*since) < BAN);
        let (known, _) = self.known.as_ref()?;
        let usable: Vec<_> = known.iter().filter(|url| !self.banned.contains_key(*url)).take(TOP).collect();
        usable.get(roll % usable.len().max(1)).map(|url| (*url).clone())
    }
}

impl Transport {
    /// URL of the proxy that the next heavy command goes to.
    pub(crate) async fn heavy_proxy(&self) -> String {
        if !self.config.proxy_discovery {
            return self.config.proxy.clone();
        }
        if self.with_heavy(|heavy| heavy.is_stale(Instant::now())) {
            self.refresh_hosts().await;
        }
        self.with_heavy(|heavy| heavy.choose(Instant::now(), rand::random_range(0..TOP * 1000)))
            .unwrap_or_else(|| self.config.proxy.clone())
    }

    /// Asks for the list. Whoever comes while it is asked for waits for the same answer.
    async fn refresh_hosts(&self) {
        let Ok(_asking) = self.asking_hosts.try_lock() else {
            drop(self.asking_hosts.lock().await);
            return;
        };
        match self.ask_hosts().await {
            Ok(urls) => self.with_heavy(|heavy| heavy.known = Some((urls, Instant::now()))),
            Err(error) => {
                tracing::debug!(?error, "`/hosts` gave no list: the configured proxy moves data");
            }
        }
    }

    /// Leaves a proxy alone for a while if the failure was its own.
    pub(crate) fn blame(&self, url: &str, error: &TryError) {
        let its_own = matches!(
            error,
            TryError::Transport { .. } | TryError::Cluster { status: 500 | 503, .. } | TryError::NotYt { .. }
        );
        if its_own && url != self.config.proxy {
            tracing::debug!(proxy = url, "left alone for {} s", BAN.as_secs());
            self.with_heavy(|heavy| heavy.banned.insert(url.to_owned(), Instant::now()));
        }
    }

    pub(crate) async fn ask_hosts(&self) -> Result<Vec<String>, TryError> {
        let proxy = &self.config.proxy;
        let scheme = if proxy.starts_with("https:") { "https" } else { "http" };
        let request = self
            .get_plain(&format!("{proxy}/hosts?address_type={scheme}"))
            .header(ACCEPT, HeaderValue::from_static("application/json"));
        let response = self.send(request).await?;
        let body = Incoming::new(response, self.config.connect_timeout).all().await?;
        parse(&body, scheme).ok_or_else(|| TryError::NotYt {
            status: 200,
            reason: "`/hosts` gave no list of hosts".to_owned(),
        })
    }
}

/// URLs of a list of hosts, or of a map that holds one. What is no host is passed over.
fn parse(body: &[u8], scheme: &str) -> Option<Vec<String>> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let hosts = json.get("proxies").unwrap_or(&json).as_array()?;
    Some(
        hosts
            .iter()
            .filter_map(|host| Some(format!("{scheme}://{}", host.as_str()?)))
            .filter(|url| reqwest::Url::parse(url).is_ok_and(|url| url.path() == "/"))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_as_a_list_or_in_a_map() {
        let urls = |body: &str| parse(body.as_bytes(), "https");
        assert_eq!(urls(r#"["a.b:80", "c"]"#).unwrap(), ["https://a.b:80", "https://c"]);
        assert_eq!(urls(r#"{"proxies": ["a"]}"#).unwrap(), ["https://a"]);
        assert_eq!(urls(r#"["a", 7, "", "b/path"]"#).unwrap(), ["https://a"]);
        assert!(urls("[]").unwrap().is_empty());
        assert_eq!(urls("<html>"), None);
        assert_eq!(urls(r#"{"a": 1}"#), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_best_are_chosen_unless_they_failed() {
        let urls: Vec<String> = (0..7).map(|number| format!("http://p{number}")).collect();
        let mut heavy = HeavyProxies { known: Some((urls.clone(), Instant::now())), banned: HashMap::new() };
        let chosen = |heavy: &mut HeavyProxies, roll| heavy.choose(Instant::now(), roll);
        assert_eq!(chosen(&mut heavy, 4).unwrap(), "http://p4");
        assert_eq!(chosen(&mut heavy, 5).unwrap(), "http://p0", "only the first five are good enough");

        heavy.banned = urls[..6].iter().map(|url| (url.clone(), Instant::now())).collect();
        assert_eq!(chosen(&mut heavy, 3).unwrap(), "http://p6");
        heavy.banned.insert("http://p6".to_owned(), Instant::now());
        assert_eq!(chosen(&mut heavy, 0), None, "nobody is left but the configured one");

        assert!(!heavy.is_stale(Instant::now()));
        tokio::time::advance(BAN).await;
        assert!(heavy.is_stale(Instant::now()));
        assert_eq!(chosen(&mut heavy, 0).unwrap(), "http://p0", "bans end");
    }
}
