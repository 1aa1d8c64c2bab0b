//! What may be wrong with the file and its disk.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{block_on, config, event_of, events, name, open};
use crate::{
    adapters::sqlite::SqliteStore,
    ports::{EventStore, ExpectedRevision, Position, ReadAll, StoreError},
};

fn refusal(path: &Path) -> StoreError {
    SqliteStore::open(config(path)).unwrap_err()
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_of_something_else_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    let text = "carrier,origin,dest\n".repeat(500);
    fs::write(&file, &text).unwrap();

    let error = refusal(&file);

    assert!(matches!(error, StoreError::NotADatabase { .. }), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(names_in(folder.path()), ["notes.txt"]);
}

#[test]
fn a_database_of_another_application_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blog.db");
    rusqlite::Connection::open(&file)
        .unwrap()
        .execute_batch("CREATE TABLE posts (id INTEGER PRIMARY KEY)")
        .unwrap();
    let before = fs::read(&file).unwrap();

    let error = refusal(&file);

    assert!(matches!(error, StoreError::NotADatabase { .. }), "{error}");
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(names_in(folder.path()), ["blog.db"]);
}

#[test]
fn a_database_from_the_future_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    block_on(open(&file).close()).unwrap();
    rusqlite::Connection::open(&file)
        .unwrap()
        .execute_batch("INSERT INTO orkestra_schema VALUES (1000, 0)")
        .unwrap();

    let error = refusal(&file);

    assert!(
        matches!(error, StoreError::NewerSchema { found: 1000, .. }),
        "{error}"
    );
}

#[test]
fn an_empty_file_becomes_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    fs::write(&file, "").unwrap();

    block_on(open(&file).append(name("a"), events(1), ExpectedRevision::Any)).unwrap();
}

#[test]
fn a_path_that_cannot_be_opened_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "x").unwrap();

    for (path, reason) in [
        (folder.path().join("missing/shop.db"), "there is no folder"),
        (folder.path().to_owned(), "it is a folder"),
        (plain.join("shop.db"), ""),
    ] {
        let error = refusal(&path);
        assert!(matches!(error, StoreError::CannotOpen { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    for path in ["", ":memory:"] {
        let error = refusal(Path::new(path));
        assert!(
            matches!(error, StoreError::InvalidArgument { .. }),
            "{error}"
        );
    }
}

#[test]
fn a_path_is_taken_as_it_is_whatever_it_looks_like() {
    let folder = tempfile::tempdir().unwrap();
    for file in [
        "with space.db",
        "file:shop.db?mode=memory",
        "100%41#1.db",
        "日本.db",
    ] {
        let path = folder.path().join(file);

        block_on(open(&path).append(name("a"), events(1), ExpectedRevision::Any)).unwrap();

        assert!(path.is_file(), "{file}");
    }
}

#[test]
fn a_link_leads_to_the_same_queue() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    block_on(open(&file).close()).unwrap();
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&file, &link).unwrap();

    let store = open(&link);
    block_on(store.append(name("a"), events(1), ExpectedRevision::Any)).unwrap();

    assert!(folder.path().join("shop.db-gate").exists());
    assert!(!folder.path().join("link.db-gate").exists());
}

#[test]
fn a_read_only_disk_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    block_on(open(&file).close()).unwrap();
    let Some(_guard) = ReadOnly::make(folder.path()) else {
        return skip("a_read_only_disk_is_named", "mounting is not permitted");
    };

    for path in [file, folder.path().join("new.db")] {
        let error = refusal(&path);
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
    }
}

#[test]
fn a_full_disk_loses_nothing_and_the_store_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(folder.path(), "2m") else {
        return skip("a_full_disk_loses_nothing", "mounting is not permitted");
    };
    let store = open(&folder.path().join("shop.db"));
    let ballast = folder.path().join("ballast");
    fs::write(&ballast, vec![0; 512 * 1024]).unwrap();
    let big = format!(r#"{{"text":"{}"}}"#, "x".repeat(50_000));
    let batch = || -> Vec<_> {
        events(3)
            .into_iter()
            .map(|e| event_of(e.id, &big))
            .collect()
    };

    let mut stored = 0;
    let error = loop {
        match block_on(store.append(name("a"), batch(), ExpectedRevision::Any)) {
            Ok(_) => stored += 3,
            Err(error) => break error,
        }
        assert!(stored < 100, "the disk should be full by now");
    };
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    let all = block_on(store.read_all(ReadAll::default())).unwrap();
    assert_eq!(all.events.len(), stored);
    fs::remove_file(ballast).unwrap();
    block_on(store.append(name("a"), batch(), ExpectedRevision::Any)).unwrap();

    assert_eq!(
        block_on(store.head()).unwrap(),
        Some(Position(stored as u64 + 3))
    );
    block_on(store.close()).unwrap();
}

#[test]
fn no_room_for_a_new_store_is_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(folder.path(), "64k") else {
        return skip(
            "no_room_for_a_new_store_is_a_full_disk",
            "mounting is not permitted",
        );
    };
    fs::write(folder.path().join("ballast"), vec![0; 60 * 1024]).unwrap();

    let error = refusal(&folder.path().join("shop.db"));

    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
}

#[test]
fn a_damaged_file_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let store = open(&file);
    block_on(store.append(name("a"), events(500), ExpectedRevision::Any)).unwrap();
    block_on(store.close()).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    for byte in bytes.iter_mut().skip(100) {
        *byte ^= 0x5a;
    }
    fs::write(&file, bytes).unwrap();

    let error = SqliteStore::open(config(&file).busy_timeout(Duration::from_millis(50)))
        .and_then(|store| block_on(store.read_all(ReadAll::default())))
        .unwrap_err();

    assert!(
        matches!(
            error,
            StoreError::Corrupt { .. } | StoreError::NotADatabase { .. }
        ),
        "{error:?}"
    );
}

fn skip(case: &str, reason: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "skipped {case}: {reason}");
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// A folder that nobody can write to until this is dropped, not even root.
struct ReadOnly {
    folder: PathBuf,
    mounted: bool,
}

impl ReadOnly {
    fn make(folder: &Path) -> Option<Self> {
        let path = folder.to_str().unwrap();
        let mounted = fs::metadata("/proc/self").unwrap().uid() == 0;
        if mounted {
            if !succeeds("mount", &["--bind", path, path]) {
                return None;
            }
            let guard = Self {
                folder: folder.to_owned(),
                mounted,
            };
            return succeeds("mount", &["-o", "remount,ro,bind", path]).then_some(guard);
        }
        for entry in fs::read_dir(folder).unwrap() {
            fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o444)).unwrap();
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o555)).unwrap();
        Some(Self {
            folder: folder.to_owned(),
            mounted,
        })
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        if self.mounted {
            succeeds("umount", &["-l", self.folder.to_str().unwrap()]);
        } else {
            let _ = fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o755));
        }
    }
}

/// A file system in memory of a given size.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let path = folder.to_str().unwrap();
        succeeds("mount", &["-t", "tmpfs", "-o", &options, "none", path])
            .then(|| Self(folder.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        succeeds("umount", &["-l", self.0.to_str().unwrap()]);
    }
}
