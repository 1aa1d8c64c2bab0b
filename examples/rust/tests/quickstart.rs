//! The program prints what every language prints.

use std::process::Command;

#[test]
fn it_prints_what_every_language_prints() {
    let done = Command::new(env!("CARGO_BIN_EXE_quickstart"))
        .output()
        .unwrap();

    let said = String::from_utf8(done.stdout).unwrap();
    assert_eq!(said, include_str!("../../quickstart.txt"));
    assert!(done.status.success());
}
