//! What is written comes out, at once and whole, whoever does not read.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use super::*;
use crate::output::sink::Pieces;

struct Harness {
    pump: Pump,
    sink: Sink,
    shown: std::io::PipeReader,
}

impl Harness {
    fn new() -> Self {
        let (shown, target) = std::io::pipe().unwrap();
        let sink = Sink::start(target, Pieces::Any).unwrap();
        Self { pump: Pump::new(sink.clone()), sink, shown }
    }

    fn open(&mut self, worker: usize) -> (File, File) {
        let style = Style::Shared { prefix: format!("[{worker}] ").into_bytes() };
        let (stdout, stderr) = self.pump.open(Member::Worker(worker), &style).unwrap();
        (stdout.into(), stderr.into())
    }

    /// What has been shown; all of it fits into the pipe.
    fn shown(&mut self, count: usize) -> String {
        self.sink.flush(Duration::from_mins(1));
        let mut bytes = vec![0; count];
        self.shown.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

#[tokio::test(flavor = "current_thread")]
async fn lines_are_shown_as_soon_as_they_are_written() {
    let mut harness = Harness::new();
    let (mut stdout, mut stderr) = harness.open(0);
    stdout.write_all(b"one\nhalf").unwrap();
    harness.pump.pump().await;
    assert_eq!(harness.shown(8), "[0] one\n");
    stderr.write_all(b"error\n").unwrap();
    harness.pump.pump().await;
    assert_eq!(harness.shown(10), "[0] error\n");
    stdout.write_all(b" line\n").unwrap();
    harness.pump.pump().await;
    assert_eq!(harness.shown(14), "[0] half line\n");
}

#[tokio::test(flavor = "current_thread")]
async fn a_dead_worker_is_drained_though_somebody_else_holds_its_pipes() {
    let mut harness = Harness::new();
    let (mut stdout, mut stderr) = harness.open(0);
    let _grandchild = (stdout.try_clone().unwrap(), stderr.try_clone().unwrap());
    stdout.write_all(b"to stdout\n").unwrap();
    stderr.write_all(b"Traceback\nboom").unwrap();
    drop((stdout, stderr));
    assert_eq!(harness.pump.drain(Member::Worker(0)), ["Traceback", "boom"]);
    assert_eq!(harness.shown(28), "[0] to stdout\n[0] Traceback\n");
    harness.pump.finish();
    assert_eq!(harness.shown(9), "[0] boom\n");
}

#[tokio::test(flavor = "current_thread")]
async fn who_starts_again_leaves_no_streams_behind() {
    let mut harness = Harness::new();
    for life in 0..3 {
        let (stdout, mut stderr) = harness.open(0);
        stderr.write_all(format!("life {life}\n").as_bytes()).unwrap();
        drop((stdout, stderr));
        assert_eq!(harness.pump.drain(Member::Worker(0)), [format!("life {life}")]);
        assert_eq!(harness.pump.streams.len(), 2);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_an_attempt_left_in_its_pipes_comes_before_the_next_one() {
    let mut harness = Harness::new();
    let (mut left, _stderr) = harness.open(0);
    let (sidecar, _others) = harness.pump.open(Member::Sidecar(0), &Style::Sole).unwrap();
    // More than one read, as of somebody who outlived the worker.
    let old = "old\n".repeat(READ_BYTES / 2);
    left.write_all(old.as_bytes()).unwrap();
    left.write_all(b"half").unwrap();
    harness.pump.begin_attempt(1);
    let (mut stdout, _stderr) = harness.open(0);
    stdout.write_all(b"new\n").unwrap();
    let mut shown = harness.shown.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 1 << 16];
        while !bytes.ends_with(b"new\n") {
            let count = shown.read(&mut chunk).unwrap();
            bytes.extend_from_slice(&chunk[..count]);
        }
        String::from_utf8(bytes).unwrap()
    });
    harness.pump.pump().await;
    let shown = reader.join().unwrap();
    assert_eq!(shown, format!("{}[0] half\n[0] new\n", "[0] old\n".repeat(READ_BYTES / 2)));
    // Sidecars live on.
    File::from(sidecar).write_all(b"side\n").unwrap();
    harness.pump.pump().await;
    assert_eq!(harness.shown(5), "side\n");
}

#[tokio::test(flavor = "current_thread")]
async fn a_burst_larger_than_a_pipe_comes_out_whole() {
    let mut harness = Harness::new();
    let (mut stdout, stderr) = harness.open(7);
    drop(stderr);
    let text = "0123456789\n".repeat(500_000);
    let expected = "[7] 0123456789\n".repeat(500_000);
    let mut shown = harness.shown.try_clone().unwrap();
    let writer = std::thread::spawn(move || stdout.write_all(text.as_bytes()).unwrap());
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; expected.len()];
        shown.read_exact(&mut bytes).unwrap();
        assert!(bytes == expected.as_bytes());
    });
    while harness.pump.streams.iter().any(|stream| stream.end == End::Open) {
        harness.pump.pump().await;
    }
    writer.join().unwrap();
    reader.join().unwrap();
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn what_nobody_reads_on_stderr_goes_into_its_table_all_the_same() {
    let mut harness = Harness::new();
    let (intake, taken) = crate::logs::testing::intake(u64::MAX);
    harness.pump = Pump::new(harness.sink.clone()).feeding(intake, 1);
    let (mut stdout, stderr) = harness.open(0);
    drop(stderr);
    let text = "0123456789\n".repeat(1_000_000);
    let writer = std::thread::spawn(move || stdout.write_all(text.as_bytes()).unwrap());
    while harness.pump.streams.iter().any(|stream| stream.end == End::Open) {
        // Nobody reads: time passes only where the pump waits for it.
        harness.pump.pump().await;
    }
    writer.join().unwrap();
    assert_eq!(taken(), 1_000_000);
    assert!(harness.pump.shown.missing().is_some_and(|bytes| bytes > 1_000_000));

    // Who reads again sees whole lines.
    let mut shown = harness.shown.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 1 << 16];
        while !bytes.ends_with(b"the end\n") {
            let count = shown.read(&mut chunk).unwrap();
            bytes.extend_from_slice(&chunk[..count]);
        }
        String::from_utf8(bytes).unwrap()
    });
    std::future::poll_fn(|context| harness.sink.poll_room(context)).await;
    let (mut stdout, _stderr) = harness.open(0);
    stdout.write_all(b"the end\n").unwrap();
    harness.pump.pump().await;
    assert_eq!(harness.pump.shown.missing(), None);
    let lines = reader.join().unwrap();
    assert!(lines.lines().all(|line| line == "[0] 0123456789" || line == "[0] the end"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_full_table_stops_the_reading_until_there_is_room() {
    let mut harness = Harness::new();
    let (intake, taken) = crate::logs::testing::intake(1 << 20);
    harness.pump = Pump::new(harness.sink.clone()).feeding(intake, 1);
    let (mut stdout, _stderr) = harness.open(0);
    let shown = harness.shown.try_clone().unwrap();
    std::thread::spawn(move || std::io::copy(&mut File::from(OwnedFd::from(shown)), &mut std::io::sink()));
    let writer = std::thread::spawn(move || stdout.write_all(&vec![b'\n'; 4 << 20]).unwrap());
    let mut context = Context::from_waker(std::task::Waker::noop());
    // The intake holds a mebibyte, and a read is at most this much more.
    let mut lines = 0;
    while lines < 4 << 20 {
        while harness.pump.poll_pump(&mut context).is_ready() {}
        let now = taken();
        assert!(now - lines <= (1 << 20) + READ_BYTES as u64, "{}", now - lines);
        lines = now;
        tokio::task::yield_now().await;
    }
    writer.join().unwrap();
}
