//! Databases that are set up in ways that are allowed, and that surprise programs.

use orkestra::code::Coded;
use orkestra_tests::postgres::{Server, shared};
use rustix::process::Signal;

use crate::{log::Log, process::Worker, work::Report};

/// Has every session of the database begin with the setting.
fn set(server: &Server, url: &str, setting: &str) {
    let (_, database) = url.rsplit_once('/').unwrap();
    // From another database, which the setting is not for.
    server.sql(
        "/postgres",
        &format!("ALTER DATABASE \"{database}\" SET {setting}"),
    );
}

/// Two apps append at the same time, and a process reads it all.
fn works(url: &str) {
    let (one, two) = (Log::open(url), Log::open(url));
    let reader = Worker::reader(url);
    let both = [one.append_behind(0..100), two.append_behind(100..200)];
    for appending in both {
        appending.join().unwrap();
    }
    let mut reports = Vec::new();
    let last = one.all().last().map(|(position, _)| *position);
    while one.checkpoint().map(|position| position.0) != last {
        reports.extend(reader.wait(|report| matches!(report, Report::Saved { .. })));
    }
    reader.signal(Signal::TERM);
    reports.extend(reader.end().0);
    one.check(&[&reports]);
    assert_eq!(one.all().len(), 200);
}

#[test]
fn every_transaction_is_serializable() {
    let Some(server) = shared() else { return };
    let url = server.database("serializable");
    set(
        &server,
        &url,
        "default_transaction_isolation = 'serializable'",
    );

    works(&url);
}

#[test]
fn times_bytes_and_strings_are_written_in_other_ways() {
    let Some(server) = shared() else { return };
    let url = server.database("formats");
    for setting in [
        "datestyle = 'SQL, DMY'",
        "timezone = 'Asia/Kathmandu'",
        "intervalstyle = 'sql_standard'",
        "bytea_output = 'escape'",
        "standard_conforming_strings = off",
        "extra_float_digits = 0",
        "search_path = ''",
    ] {
        set(&server, &url, setting);
    }

    works(&url);
}

#[test]
fn plans_are_made_in_other_ways() {
    let Some(server) = shared() else { return };
    let url = server.database("plans");
    for setting in [
        "plan_cache_mode = 'force_generic_plan'",
        "enable_seqscan = off",
        "jit_above_cost = 0",
        "enable_indexscan = off",
    ] {
        set(&server, &url, setting);
    }

    works(&url);
}

/// As a stand-by server, or one under maintenance.
#[test]
fn a_database_that_only_reads_says_so() {
    let Some(server) = shared() else { return };
    let url = server.database("reading");
    let log = Log::open(&url);
    log.append(0..10);
    set(&server, &url, "default_transaction_read_only = on");
    server.terminate(&url, "%");

    let error = loop {
        match log.try_append(10) {
            Err(error) if error.code() == "ORK_STORE_UNAVAILABLE" => {}
            Err(error) => break error,
            Ok(()) => panic!("it was appended"),
        }
    };
    assert_eq!(error.code(), "ORK_STORE_READ_ONLY", "{error}");
    assert_eq!(log.all().len(), 10);
    set(&server, &url, "default_transaction_read_only = off");
    server.terminate(&url, "%");

    log.append(10..20);
    assert_eq!(log.check_numbers().len(), 20);
}
