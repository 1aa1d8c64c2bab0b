//! Arrows between the core's modules go down only.
//!
//! ```text
//!                      app   error
//!               outbox  projection
//!  aggregate broker subscription             adapters/*
//!                 delivery  registry
//!                         ports
//!       message   topic   retry   clock   code   telemetry
//! ```
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The rows, lowest first. A module may use its own row where `sideways` says so, and every row below.
const ROWS: &[Row] = &[
    Row {
        modules: &[
            "background",
            "message",
            "topic",
            "retry",
            "clock",
            "code",
            "telemetry",
        ],
        sideways: true,
    },
    Row {
        modules: &["ports"],
        sideways: false,
    },
    Row {
        modules: &["delivery", "registry"],
        sideways: false,
    },
    Row {
        modules: &["aggregate", "broker", "subscription", "adapters"],
        sideways: false,
    },
    Row {
        modules: &["outbox", "retention", "projection"],
        sideways: false,
    },
    Row {
        modules: &["app", "error"],
        sideways: true,
    },
];

/// What adapters share, which knows none of them.
const SHARED: &str = "adapters::shared";

/// May use anything, and nothing may use it.
const TESTING: &str = "testing";

struct Row {
    modules: &'static [&'static str],
    sideways: bool,
}

fn row_of(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.modules.contains(&module))
}

/// Why `from` may not use `to`.
fn objection(from: &str, to: &str) -> Option<String> {
    if from == to || from == TESTING {
        return None;
    }
    if to == TESTING {
        return Some("only tests use testing".into());
    }
    match (row_of(from), row_of(to)) {
        (Some(lower), Some(upper)) if lower < upper => Some("the arrow goes up".into()),
        (Some(row), Some(same)) if row == same && !ROWS[row].sideways => {
            Some("the arrow goes sideways".into())
        }
        (Some(_), Some(_)) => None,
        (None, _) => Some(format!("{from} is in no row")),
        (_, None) => Some(format!("{to} is in no row")),
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The code without comments and without what comes after the first `#[cfg(test)]` of a module.
fn code_of(text: &str) -> String {
    let body = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    body.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

fn name_at(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    &text[..end]
}

/// The paths below `crate::`, two segments each: `ports`, `adapters::memory`.
fn used_paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (start, _) in code.match_indices("crate::") {
        let rest = &code[start + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => found.extend(list_items(list).iter().map(|item| path_of(item))),
            None => {
                found.insert(path_of(rest));
            }
        }
    }
    found
}

fn path_of(item: &str) -> String {
    let item = item.trim_start();
    let first = name_at(item);
    match item[first.len()..].strip_prefix("::") {
        Some(second) if !name_at(second).is_empty() => format!("{first}::{}", name_at(second)),
        Some(_) => format!("{first}::*"),
        None => first.to_owned(),
    }
}

/// The items of a list up to its closing brace, nested lists left whole.
fn list_items(list: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut depth = 0;
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(item) = items.last_mut() {
            item.push(c);
        }
    }
    items.retain(|item| !item.trim().is_empty());
    items
}

/// The module of a path; names of the crate's root are the app's.
fn module_of(path: &str) -> &str {
    let first = path.split("::").next().unwrap_or_default();
    if row_of(first).is_some() || first == TESTING {
        first
    } else {
        "app"
    }
}

#[test]
fn arrows_go_down_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src");
    let mut wrong = Vec::new();
    let mut checked = 0;

    for file in rust_files(&src) {
        let place = file.strip_prefix(&src).unwrap();
        let mut parts = place.iter().map(|part| part.to_string_lossy());
        let first = parts.next().unwrap();
        let module = first.trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let code = code_of(&fs::read_to_string(&file).unwrap());
        for path in used_paths(&code) {
            checked += 1;
            let mut objection = objection(module, module_of(&path));
            if module == "adapters" && module_of(&path) == "adapters" {
                let own = parts.clone().next().unwrap_or_default();
                if path != format!("adapters::{}", own.trim_end_matches(".rs")) && path != SHARED {
                    objection = Some("adapters never name each other".into());
                }
            }
            if let Some(objection) = objection {
                wrong.push(format!("{} uses {path}: {objection}", place.display()));
            }
        }
    }

    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(checked > 50, "only {checked} arrows were found");
}

#[test]
fn every_form_of_use_is_seen() {
    let code = code_of(
        "use crate::{\n    clock::{Clock, Timestamp},\n    ports::StoreError, topic,\n};\n\
         // crate::comment::X\n\
         fn f() { crate::message::shorten(\"\"); let _: crate::Error; }\n\
         use crate::adapters::memory::MemoryStore;\n\
         #[cfg(test)]\nmod tests { use crate::app::Orkestra; }",
    );

    let expected = [
        "Error",
        "adapters::memory",
        "clock::*",
        "message::shorten",
        "ports::StoreError",
        "topic",
    ];
    assert!(
        used_paths(&code).iter().eq(expected),
        "{:?}",
        used_paths(&code)
    );
}

#[test]
fn an_arrow_that_goes_up_or_sideways_is_objected_to() {
    for (from, to) in [
        ("ports", "aggregate"),
        ("message", "ports"),
        ("aggregate", "adapters"),
        ("adapters", "subscription"),
        ("subscription", "aggregate"),
        ("subscription", "outbox"),
        ("clock", "app"),
        ("subscription", "projection"),
        ("app", "testing"),
        ("app", "somewhere"),
    ] {
        assert!(objection(from, to).is_some(), "{from} -> {to}");
    }
    for (from, to) in [
        ("app", "adapters"),
        ("adapters", "ports"),
        ("ports", "topic"),
        ("message", "clock"),
        ("outbox", "subscription"),
        ("projection", "subscription"),
        ("testing", "app"),
    ] {
        assert_eq!(objection(from, to), None, "{from} -> {to}");
    }
}
