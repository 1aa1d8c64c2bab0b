use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    python: Option<String>,
    node: Option<String>,
    rust: Option<String>,
    #[serde(default)]
    options: Vec<String>,
    why: Option<String>,
}

/// What the source of the crate declares, read from its text as rustfmt leaves it.
#[derive(Default)]
struct Source {
    /// Names of types, functions, macros and constants.
    items: BTreeSet<String>,
    /// Members by type: methods, fields, variants.
    members: BTreeMap<String, BTreeSet<String>>,
    /// Public methods of the app's own types.
    methods: BTreeSet<(String, String)>,
}

fn word(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    &text[..end]
}

fn after<'a>(line: &'a str, starts: &[&str]) -> Option<&'a str> {
    starts.iter().find_map(|start| line.strip_prefix(start))
}

/// The type that a block at the margin belongs to, and whether all of its functions are public.
fn block(line: &str) -> Option<(&str, bool)> {
    if let Some(rest) = after(line, &["pub struct ", "pub enum ", "pub trait "]) {
        return Some((word(rest), line.starts_with("pub trait ")));
    }
    let rest = line.strip_prefix("impl")?;
    let rest = match rest.strip_prefix('<') {
        Some(generic) => &generic[generic.find("> ")? + 2..],
        None => rest.strip_prefix(' ')?,
    };
    match rest.split_once(" for ") {
        Some((_, target)) => Some((word(target), true)),
        None => Some((word(rest), false)),
    }
}

impl Source {
    fn read(&mut self, text: &str, is_app: bool) {
        let mut owner: Option<(String, bool)> = None;
        for line in text.lines() {
            if line.starts_with("#[cfg(test)]") {
                break;
            }
            let margin = line.len() - line.trim_start().len();
            let line = line.trim_start();
            // Error enums stand inside their macro.
            if margin == 4 && line.starts_with("pub enum ") {
                self.items
                    .extend(block(line).map(|(name, _)| name.to_owned()));
            }
            if margin == 0 {
                if let Some((name, open)) = block(line) {
                    owner = Some((name.to_owned(), open));
                }
                let item = after(
                    line,
                    &[
                        "pub struct ",
                        "pub enum ",
                        "pub trait ",
                        "pub fn ",
                        "pub type ",
                        "pub const ",
                        "macro_rules! ",
                    ],
                );
                self.items.extend(item.map(|rest| word(rest).to_owned()));
            }
            if let (4, Some((owner, open))) = (margin, &owner) {
                self.member(owner, *open, line, is_app);
            }
        }
    }

    fn member(&mut self, owner: &str, open: bool, line: &str, is_app: bool) {
        let public = after(line, &["pub async fn ", "pub const fn ", "pub fn "]);
        let private = after(line, &["async fn ", "fn "]).filter(|_| open);
        let field = line.strip_prefix("pub ").filter(|rest| {
            let name = word(rest);
            rest[name.len()..].starts_with(':')
        });
        if let Some(rest) = public.filter(|_| is_app) {
            self.methods
                .insert((owner.to_owned(), word(rest).to_owned()));
        }
        if let Some(rest) = public.or(private).or(field) {
            let members = self.members.entry(owner.to_owned()).or_default();
            members.insert(word(rest).to_owned());
        }
    }

    fn has(&self, path: &str) -> bool {
        let names: Vec<&str> = path.split("::").collect();
        let is_type = |name: &str| name.starts_with(|c: char| c.is_ascii_uppercase());
        match names[..] {
            [.., owner, member] if is_type(owner) => self
                .members
                .get(owner)
                .is_some_and(|members| members.contains(member)),
            [.., item] => self.items.contains(item),
            [] => false,
        }
    }
}

fn source() -> (Source, String) {
    fn visit(folder: &Path, is_app: bool, source: &mut Source) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, path.ends_with("src/app"), source);
            } else {
                source.read(&fs::read_to_string(&path).unwrap(), is_app);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src");
    let mut source = Source::default();
    visit(&src, false, &mut source);
    (source, fs::read_to_string(src.join("lib.rs")).unwrap())
}

/// The names that `lib.rs` re-exports.
fn exported(lib: &str) -> BTreeSet<String> {
    let code: String = lib
        .lines()
        .filter(|l| !l.trim_start().starts_with("//"))
        .collect();
    code.split(';')
        .filter_map(|item| item.split_once("pub use "))
        .flat_map(|(_, path)| {
            let list = path.rsplit("::").next().unwrap_or(path);
            list.trim_matches(['{', '}', ' ']).split(',')
        })
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn every_row_is_whole() {
    let rows: Vec<Row> = crate::read("surface.json");
    let mut names = BTreeSet::new();

    for row in rows {
        assert!(
            names.insert(row.name.clone()),
            "{} is there twice",
            row.name
        );
        let lacks = [
            ("python", row.python.is_none()),
            ("node", row.node.is_none()),
            ("rust", row.rust.is_none()),
        ];
        assert!(!lacks.iter().all(|(_, lacks)| *lacks), "{}", row.name);
        for (language, _) in lacks.iter().filter(|(_, lacks)| *lacks) {
            let why = row.why.as_deref().unwrap_or_default();
            assert!(
                why.contains(language),
                "{}: why not in {language}?",
                row.name
            );
        }
    }
}

#[test]
fn the_crate_has_every_rust_name() {
    let (source, lib) = source();
    let exported = exported(&lib);

    for row in crate::read::<Vec<Row>>("surface.json") {
        let Some(path) = row.rust else { continue };
        let first = path.split("::").next().unwrap_or_default();
        let reachable = exported.contains(first)
            || lib.contains(&format!("pub mod {first};"))
            || (first.ends_with("_set") && source.items.contains(first));
        assert!(reachable, "{path} is not public");
        assert!(
            path == "Bytes" || source.has(&path),
            "{path} does not exist"
        );
    }
}

#[test]
fn every_public_name_of_the_app_has_a_row() {
    let (source, lib) = source();
    let rows: Vec<Row> = crate::read("surface.json");
    let listed: BTreeSet<&str> = rows.iter().filter_map(|r| r.rust.as_deref()).collect();
    let options: BTreeSet<&str> = rows
        .iter()
        .flat_map(|r| r.options.iter().map(String::as_str))
        .collect();
    let exported = exported(&lib);

    let types = exported
        .iter()
        .filter(|name| !listed.contains(name.as_str()));
    let methods = source
        .methods
        .iter()
        .filter(|(owner, _)| exported.contains(owner))
        .filter(|(owner, method)| {
            let is_option = matches!(
                &**owner,
                "Builder" | "Dispatch" | "Sending" | "Publish" | "Execute"
            ) && options.contains(method.as_str());
            !is_option && !listed.contains(format!("{owner}::{method}").as_str())
        })
        .map(|(owner, method)| format!("{owner}::{method}"));
    let missing: Vec<String> = types.cloned().chain(methods).collect();

    assert!(missing.is_empty(), "not in surface.json: {missing:?}");
}
