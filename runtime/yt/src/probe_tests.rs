//! The way to a proxy, and who somebody is there, against a scripted server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::commands::access::Permission;
use crate::error::codes;
use crate::probe::{Refusal, Way, addresses, greet};
use crate::testing::{Answer, Server, config_for};

fn api(status: u16, date: &str) -> Answer {
    let headers = vec![("Date", date.to_owned())];
    Answer::Whole { status, headers, body: br#"["v3","v4"]"#.to_vec() }
}

#[tokio::test]
async fn a_proxy_greets_at_its_address_and_tells_its_time() {
    let server = Server::start(|_, _| api(200, "Sat, 01 Jan 2000 00:00:00 GMT")).await;
    let config = server.config();
    assert_eq!(addresses(&config).await.unwrap(), [server.address]);
    for way in [Way::To(server.address), Way::AsClientsGo] {
        let greeting = greet(&config, way).await.unwrap().unwrap();
        let (theirs, ours) = greeting.clocks.unwrap();
        assert_eq!(theirs, UNIX_EPOCH + Duration::from_millis(946_684_800_500));
        assert!(ours > theirs && ours <= SystemTime::now());
    }
    assert!(server.requests("api").iter().all(|request| !request.headers.contains_key("authorization")));
}

#[tokio::test]
async fn a_name_leads_to_the_address_that_was_asked_for() {
    let server = Server::start(|_, _| api(200, "")).await;
    let mut config = config_for(&format!("http://no-such-host.invalid:{}", server.address.port()));
    config.connect_timeout = Duration::from_secs(2);
    assert!(greet(&config, Way::To(server.address)).await.unwrap().unwrap().clocks.is_none());
    assert_eq!(
        greet(&config, Way::AsClientsGo).await.unwrap(),
        Err(Refusal::Unreachable("its host name cannot be resolved".to_owned()))
    );
    assert!(!addresses(&config).await.unwrap_err().is_empty());
}

#[tokio::test]
async fn who_does_not_greet_is_told_apart() {
    let refusal = async |answer: fn() -> Answer| {
        let server = Server::start(move |_, _| answer()).await;
        let mut config = server.config();
        config.light_timeout = Duration::from_millis(200);
        greet(&config, Way::To(server.address)).await.unwrap().unwrap_err()
    };
    assert_eq!(
        refusal(|| api(503, "")).await,
        Refusal::Unavailable("HTTP status 503 Service Unavailable".to_owned())
    );
    assert_eq!(
        refusal(|| Answer::bytes(b"<html>")).await,
        Refusal::Strange("it does not answer as a YT proxy does".to_owned())
    );
    assert_eq!(
        refusal(|| Answer::Silence).await,
        Refusal::Silent("it takes connections and does not answer".to_owned())
    );
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = config_for(&format!("http://{address}"));
    assert_eq!(
        greet(&config, Way::To(address)).await.unwrap(),
        Err(Refusal::Unreachable("connection refused".to_owned()))
    );
}

#[tokio::test]
async fn a_strangers_certificate_is_a_matter_of_tls() {
    let server = Server::start_tls(|_, _| api(200, "")).await;
    let config = config_for(&format!("https://localhost:{}", server.address.port()));
    let Err(Refusal::Tls(cause)) = greet(&config, Way::To(server.address)).await.unwrap() else {
        panic!("a strange certificate was trusted");
    };
    assert_eq!(cause, "TLS: invalid peer certificate: UnknownIssuer");
}

#[tokio::test]
async fn an_older_cluster_tells_who_somebody_is_in_its_own_way() {
    let server = Server::start(|_, request| match request.command.as_str() {
        "get_current_user" => Answer::error(404, 1, "Command is not registered"),
        "whoami" => Answer::bytes(br#"{"login": "alice", "realm": "x"}"#),
        other => panic!("{other}"),
    })
    .await;
    assert_eq!(server.client().current_user().await.unwrap(), "alice");
    assert_eq!(server.requests("whoami")[0].headers["authorization"], "OAuth t0ken");

    let server =
        Server::start(|_, _| Answer::error(401, codes::INVALID_CREDENTIALS, "Invalid credentials")).await;
    let error = server.client().current_user().await.unwrap_err();
    assert!(error.to_string().contains("does not accept the token"), "{error}");
    assert_eq!(server.commands(), ["get_current_user"]);
}

#[tokio::test]
async fn permissions_and_the_time_are_read() {
    let server = Server::start(|_, request| match request.command.as_str() {
        "check_permission" if request.text("permission") == Some("read") => Answer::yson("{action=allow}"),
        "check_permission" => {
            Answer::yson("{action=deny; object_name=\"node //home\"; subject_name=everyone}")
        }
        // 946684800 << 30, and a counter.
        "generate_timestamp" => Answer::yson("{timestamp=1016495063905075207u}"),
        other => panic!("{other}"),
    })
    .await;
    let client = server.client();
    assert_eq!(client.check_permission("alice", "read", "//home").await.unwrap(), Permission::Allowed);
    assert_eq!(
        client.check_permission("alice", "write", "//home").await.unwrap(),
        Permission::Denied { object: Some("node //home".to_owned()), subject: Some("everyone".to_owned()) }
    );
    assert_eq!(client.cluster_time().await.unwrap(), UNIX_EPOCH + Duration::from_hours(262_968));
}
