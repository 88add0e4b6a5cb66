//! Transactions against a scripted server: pings, loss, commit, abort, drop.

use std::time::Duration;

use crate::error::codes;
use crate::testing::{Answer, Server};
use crate::transaction::{LostReason, TransactionId, TransactionOptions};
use crate::value::{ValueExt, int};

/// Short enough for a test, long enough for a slow machine to get several pings through.
const TIMEOUT: Duration = Duration::from_secs(2);

fn options() -> TransactionOptions {
    TransactionOptions { timeout: TIMEOUT, title: Some("a title".to_owned()), parent: None }
}

fn answer(command: &str, ping: impl FnOnce() -> Answer) -> Answer {
    match command {
        "start_transaction" => Answer::yson("{transaction_id=\"1-2-10001-4\"}"),
        "ping_transaction" => ping(),
        _ => Answer::yson("{}"),
    }
}

#[tokio::test]
async fn it_is_pinged_and_committed() {
    let server = Server::start(|_, request| answer(&request.command, || Answer::yson("{}"))).await;
    let client = server.client().with_prerequisite(&TransactionId::new("9-9-9-9"));
    let transaction = client.start_transaction(options()).await.unwrap();
    let start = &server.requests("start_transaction")[0];
    assert_eq!(start.parameters.get("timeout"), Some(&int(2000)));
    assert_eq!(start.parameters.get("attributes").unwrap()["title"].as_str(), Some("a title"));
    assert_eq!(transaction.id().as_str(), "1-2-10001-4");

    server.wait_for("ping_transaction", 2).await;
    let ping = &server.requests("ping_transaction")[0];
    assert_eq!(ping.text("transaction_id"), Some("1-2-10001-4"));
    assert!(ping.parameters.get("prerequisite_transaction_ids").is_none(), "a ping goes without");

    transaction.client().exists("//x").await.unwrap_err();
    assert_eq!(server.requests("exists")[0].text("transaction_id"), Some("1-2-10001-4"));
    let lost = transaction.lost();
    transaction.commit().await.unwrap();
    assert_eq!(lost.await, LostReason::Ended);
    let commit = &server.requests("commit_transaction")[0];
    assert_eq!(commit.text("transaction_id"), Some("1-2-10001-4"));
    assert!(commit.text("mutation_id").is_some());
    assert!(commit.parameters.get("prerequisite_transaction_ids").is_some());
}

#[tokio::test]
async fn one_that_the_cluster_forgot_is_lost() {
    let gone = || Answer::error(400, codes::NO_SUCH_TRANSACTION, "No such transaction 1-2-10001-4");
    let server = Server::start(move |_, request| answer(&request.command, gone)).await;
    let transaction = server.client().start_transaction(options()).await.unwrap();
    let reason = transaction.lost().await;
    assert!(
        matches!(&reason, LostReason::Gone(error) if error.code == codes::NO_SUCH_TRANSACTION),
        "{reason:?}"
    );
    assert_eq!(reason.to_string(), "the cluster does not know it any more: No such transaction 1-2-10001-4");
    assert_eq!(transaction.lost().await, reason, "whoever asks later learns it too");
}

#[tokio::test]
async fn failing_pings_are_repeated_and_forgiven() {
    let server = Server::start(|before, request| {
        answer(&request.command, || {
            if before % 2 == 0 { Answer::error(503, 1, "away") } else { Answer::yson("{}") }
        })
    })
    .await;
    let transaction = server.client().start_transaction(options()).await.unwrap();
    tokio::select! {
        reason = transaction.lost() => panic!("{reason}"),
        () = server.wait_for("ping_transaction", 7) => {}
    }
}

#[tokio::test]
async fn one_whose_pings_do_not_come_through_is_lost_after_its_timeout() {
    let server = Server::start(|_, request| answer(&request.command, || Answer::error(503, 1, "away"))).await;
    let transaction = server.client().start_transaction(options()).await.unwrap();
    let reason = transaction.lost().await;
    let LostReason::NotPinged { silence, last_error } = &reason else { panic!("{reason:?}") };
    assert!(*silence >= TIMEOUT);
    assert_eq!(last_error, "away");
    assert!(server.requests("ping_transaction").len() >= 2, "it was tried more than once");
}

#[tokio::test]
async fn a_silent_cluster_is_a_lost_one_too() {
    let server = Server::start(|_, request| answer(&request.command, || Answer::Silence)).await;
    let transaction = server.client().start_transaction(options()).await.unwrap();
    assert!(matches!(transaction.lost().await, LostReason::NotPinged { .. }));
}

#[tokio::test]
async fn dropping_it_ends_its_pings() {
    let server = Server::start(|_, request| answer(&request.command, || Answer::yson("{}"))).await;
    let transaction = server.client().start_transaction(options()).await.unwrap();
    let lost = transaction.lost();
    drop(transaction);
    assert_eq!(lost.await, LostReason::Ended);
    assert!(server.requests("abort_transaction").is_empty(), "it dies by itself");
}

#[tokio::test]
async fn aborting_what_is_gone_is_fine() {
    let server = Server::start(|before, request| match request.command.as_str() {
        "abort_transaction" if before == 0 => {
            Answer::error(400, codes::NO_SUCH_TRANSACTION, "No such transaction")
        }
        "abort_transaction" => Answer::error(400, codes::AUTHORIZATION_ERROR, "Access denied"),
        command => answer(command, || Answer::yson("{}")),
    })
    .await;
    let client = server.client();
    client.start_transaction(options()).await.unwrap().abort().await.unwrap();
    let error = client.abort_transaction(&TransactionId::new("1-2-3-4")).await.unwrap_err();
    assert!(error.contains(codes::AUTHORIZATION_ERROR));
}

#[tokio::test]
async fn a_parent_is_named() {
    let server = Server::start(|_, request| answer(&request.command, || Answer::yson("{}"))).await;
    let parent = TransactionId::new("5-6-7-8");
    let named = TransactionOptions { parent: Some(parent.clone()), ..options() };
    let client = server.client();
    let _by_options = client.start_transaction(named).await.unwrap();
    let _by_client = client.in_transaction(&parent).start_transaction(options()).await.unwrap();
    for request in server.requests("start_transaction") {
        assert_eq!(request.text("transaction_id"), Some("5-6-7-8"));
    }
}

#[tokio::test]
async fn pings_ask_besides_whether_something_exists_until_it_does() {
    let server = Server::start(|before, request| match request.command.as_str() {
        "execute_batch" if before < 2 => Answer::yson("{results=[{}; {output={value=%false}}]}"),
        "execute_batch" => Answer::yson("{results=[{}; {output={value=%true}}]}"),
        command => answer(command, || Answer::yson("{}")),
    })
    .await;
    let transaction = server.client().start_transaction(options()).await.unwrap();
    transaction.when_exists("//x/@wish".to_owned(), TIMEOUT / 20).await;
    let batches = server.requests("execute_batch");
    assert_eq!(batches.len(), 3);
    let parts = batches[0].parameters.get("requests").unwrap().as_list().unwrap();
    assert_eq!(parts[0]["command"].as_str(), Some("ping_transaction"));
    assert_eq!(parts[0]["parameters"]["transaction_id"].as_str(), Some("1-2-10001-4"));
    assert_eq!(parts[1]["command"].as_str(), Some("exists"));
    assert_eq!(parts[1]["parameters"]["path"].as_str(), Some("//x/@wish"));
    // From then on it is as before.
    server.wait_for("ping_transaction", 1).await;
    assert_eq!(server.requests("execute_batch").len(), 3);
}

#[tokio::test]
async fn a_question_that_fails_costs_nothing_and_a_ping_that_fails_in_company_counts() {
    let server = Server::start(|before, request| match request.command.as_str() {
        "execute_batch" if before < 3 => Answer::yson("{results=[{}; {error={code=1; message=away}}]}"),
        "execute_batch" => {
            Answer::yson("{results=[{error={code=11000; message=gone}}; {output={value=%true}}]}")
        }
        command => answer(command, || Answer::yson("{}")),
    })
    .await;
    let transaction = server.client().start_transaction(options()).await.unwrap();
    let found = transaction.when_exists("//x/@wish".to_owned(), TIMEOUT / 20);
    tokio::select! {
        reason = transaction.lost() => assert!(matches!(&reason, LostReason::Gone(error) if error.code == 11000), "{reason:?}"),
        () = found => panic!("the answer of a lost transaction counts for nothing"),
    }
    assert!(server.requests("ping_transaction").is_empty());
}
