//! What the private servers of the tests have in common: the scripts that run them, ports, and what the run says of them.

use std::{
    env,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

/// What the run gives its tests.
#[expect(clippy::disallowed_methods, reason = "what the run gives its tests")]
pub(crate) fn setting(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Says that a test is passed over for want of a server; panics where `ORKESTRA_TEST_REQUIRE` names it.
pub(crate) fn required(server: &str, missing: &str) {
    let required = setting("ORKESTRA_TEST_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name == server),
        "ORKESTRA_TEST_REQUIRE names {server}, but there is {missing}"
    );
    eprintln!("skipped: {missing}");
}

/// One of the 1,000 even ports from `first` that nobody listens on, nor on the `offsets` from it; each call another. All of them are below the
/// range that systems give to outgoing connections, which begins at 32,768.
pub(crate) fn free_port(first: u16, offsets: &[u16]) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 1000).unwrap();
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = first + (start + number) % 1000 * 2;
        let free = |offset: &u16| TcpListener::bind(("127.0.0.1", port + offset)).is_ok();
        if offsets.iter().all(free) {
            return port;
        }
    }
}

/// What `scripts/NAME COMMAND FOLDER REST` prints.
pub(crate) fn run(name: &str, command: &[&str], folder: &Path, rest: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../scripts")
        .join(name);
    let output = Command::new(path)
        .args(command)
        .arg(folder)
        .args(rest)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{name} {command:?} {rest:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
