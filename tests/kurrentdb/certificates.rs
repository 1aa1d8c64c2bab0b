//! Certificates of an authority of the tests' own, made by openssl.
#![expect(clippy::print_stdout, reason = "a skip must be seen in the report")]

use std::{fs, path::Path, process::Command};

/// Puts `ca.pem`, `server.pem` and `server.key` (for 127.0.0.1 and localhost), `elsewhere.pem` and `elsewhere.key` (for another name) and
/// `other.pem` (another authority) into `folder`; false, after saying so, if there is no openssl.
pub fn make(folder: &Path) -> bool {
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "3650",
    ];
    let run = |args: &[&str]| {
        let mut command = Command::new("openssl");
        command
            .current_dir(folder)
            .args(["req", "-x509"])
            .args(key)
            .args(args);
        match command.output() {
            Ok(output) if output.status.success() => true,
            Ok(output) => panic!("openssl: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                println!("skipped: no openssl ({error})");
                false
            }
        }
    };
    for authority in ["ca", "other"] {
        let files = [format!("{authority}.key"), format!("{authority}.pem")];
        let subject = format!("/CN=Orkestra test authority {authority}");
        let made = run(&[
            "-keyout",
            &files[0],
            "-out",
            &files[1],
            "-subj",
            &subject,
            "-addext",
            "keyUsage=critical,keyCertSign",
        ]);
        if !made {
            return false;
        }
    }
    for (name, also) in [
        ("server", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        ("elsewhere", "subjectAltName=DNS:elsewhere.example"),
    ] {
        let files = [format!("{name}.key"), format!("{name}.pem")];
        run(&[
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-keyout",
            &files[0],
            "-out",
            &files[1],
            "-subj",
            &format!("/CN={name}"),
            "-addext",
            also,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]);
    }
    fs::metadata(folder.join("server.pem")).is_ok()
}
