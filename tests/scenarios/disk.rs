//! A disk that is full: what was acknowledged stays, what was not is not there, and the store goes on when there is room.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::{self, Command},
};

use orkestra::code::Coded;
use orkestra_tests::postgres::{Node, shared};
use tempfile::TempDir;

use crate::log::Log;

/// A small disk, gone when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` where mounting is not permitted.
    fn mount(megabytes: u32) -> Option<Self> {
        unmount_abandoned();
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={megabytes}m,mode=777");
        let name = format!("{NAME}{}", process::id());
        if succeeds(
            "mount",
            &["-t", "tmpfs", "-o", &options, &name],
            folder.path(),
        ) {
            return Some(Self(folder));
        }
        eprintln!("skipped: mounting is not permitted");
        None
    }

    /// Takes all but so many megabytes of what is free; dropped with the file.
    fn fill(&self, leave: u64) -> PathBuf {
        let ballast = self.0.path().join("ballast");
        let free = rustix::fs::statvfs(self.0.path()).unwrap();
        let bytes = free.f_bavail * free.f_frsize - leave * 1024 * 1024;
        fs::write(&ballast, vec![0; usize::try_from(bytes).unwrap()]).unwrap();
        ballast
    }
}

/// What small disks are mounted as; the number of their process follows.
const NAME: &str = "orkestra-scenario-";

/// Those whose process was killed.
fn unmount_abandoned() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(place)) = (words.next(), words.next())
            && let Some(process) = name.strip_prefix(NAME)
            && !Path::new("/proc").join(process).exists()
        {
            succeeds("umount", &["-l"], Path::new(place));
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        succeeds("umount", &["-l"], self.0.path());
    }
}

fn succeeds(program: &str, arguments: &[&str], folder: &Path) -> bool {
    let output = Command::new(program).args(arguments).arg(folder).output();
    output.is_ok_and(|output| output.status.success())
}

/// The disk of the tables. That of the server's own log has room.
#[test]
fn no_room_for_tables_is_a_full_disk_and_passes() {
    if shared().is_none() {
        return;
    }
    let Some(disk) = SmallDisk::mount(64) else {
        return;
    };
    let node = Node::started();
    let (server, url) = (node.server(), node.server().database("full"));
    let (_, name) = url.rsplit_once('/').unwrap();
    // Whoever the server runs as.
    let user = fs::metadata(server.tls()).unwrap().uid();
    chown(disk.0.path(), Some(user), None).unwrap();
    let space = disk.0.path().display();
    let root = server.database("admin");
    server.sql(
        &root,
        &format!("CREATE TABLESPACE small LOCATION '{space}'"),
    );
    server.sql(
        &root,
        &format!("ALTER DATABASE \"{name}\" SET TABLESPACE small"),
    );
    let log = Log::open(&url);
    log.append(0..10);

    let ballast = disk.fill(2);
    let mut stored = 10;
    let error = loop {
        match log.try_append_large(stored) {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "the disk should be full by now");
    };
    assert_eq!(error.code(), "ORK_STORE_DISK_FULL", "{error}");
    assert_eq!(log.check_numbers().len() as u64, stored);
    fs::remove_file(ballast).unwrap();
    log.append(stored..stored + 10);

    assert_eq!(log.check_numbers().len() as u64, stored + 10);
    drop(log);
    server.sql(&root, &format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
    server.sql(&root, "DROP TABLESPACE small");
}

/// The disk of everything: the server cannot write its own log, and goes down until it can.
#[test]
fn a_server_that_goes_down_for_want_of_room_keeps_what_it_acknowledged() {
    if shared().is_none() {
        return;
    }
    let Some(disk) = SmallDisk::mount(160) else {
        return;
    };
    let node = Node::started_in(disk.0.path());
    let url = node.server().database("full");
    let log = Log::open(&url);
    log.append(0..10);

    let ballast = disk.fill(20);
    let mut stored = 10;
    let error = loop {
        match log.try_append_large(stored) {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 200, "the disk should be full by now");
    };
    assert!(error.is_transient(), "{error}");
    fs::remove_file(ballast).unwrap();
    // The server has ended itself, or is about to come back.
    node.start();
    // The same event: whether it was stored before the end is not for the caller to know.
    log.append(stored..stored + 10);

    assert_eq!(log.check_numbers().len() as u64, stored + 10);
}
