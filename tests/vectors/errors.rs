use std::{collections::BTreeSet, fs, path::Path};

use orkestra::{catalogue, code::ErrorCode};
use serde::Serialize;

#[derive(Serialize)]
struct Row {
    code: &'static str,
    layer: &'static str,
    class: &'static str,
    transient: bool,
    details: &'static [&'static str],
}

fn row(code: &ErrorCode) -> String {
    let row = Row {
        code: code.code,
        layer: code.layer,
        class: code.class,
        transient: code.transient,
        details: code.details,
    };
    format!("  {}", serde_json::to_string(&row).unwrap())
}

fn expected() -> String {
    let rows: Vec<String> = catalogue().map(row).collect();
    format!("[\n{}\n]\n", rows.join(",\n"))
}

#[test]
fn the_catalogue_is_up_to_date() {
    assert!(
        crate::text_of("errors.json") == expected(),
        "errors.json differs from the core: cargo test -p orkestra-tests --test vectors -- --ignored write_errors_json"
    );
}

#[test]
#[ignore = "writes errors.json from the core"]
fn write_errors_json() {
    fs::write(crate::folder().join("errors.json"), expected()).unwrap();
}

fn guide() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The headings of the guide: one section for each code.
fn documented() -> Vec<String> {
    guide()
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|heading| heading.trim_matches('`').to_owned())
        .collect()
}

#[test]
fn every_code_has_its_section_in_the_guide() {
    let sections = documented();
    let documented: BTreeSet<&str> = sections.iter().map(String::as_str).collect();
    let codes: BTreeSet<&str> = catalogue().map(|code| code.code).collect();

    let missing: Vec<_> = codes.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&codes).collect();
    assert!(missing.is_empty(), "not in docs/errors.md: {missing:?}");
    assert!(unknown.is_empty(), "no such code: {unknown:?}");
    assert_eq!(documented.len(), sections.len(), "a section is there twice");
}

#[test]
fn the_guide_names_class_transience_and_details() {
    let text = guide();

    for code in catalogue() {
        let heading = format!("### `{}`\n", code.code);
        let section = text
            .split_once(&heading)
            .map(|(_, section)| section.trim_start());
        let mut expected = format!(
            "`{}` · {}",
            code.class,
            if code.transient {
                "transient"
            } else {
                "permanent"
            }
        );
        if !code.details.is_empty() {
            expected.extend([" · `", &code.details.join("`, `"), "`"]);
        }
        let found = section.and_then(|s| s.lines().next()).unwrap_or_default();
        assert_eq!(found, expected, "{}", code.code);
    }
}
