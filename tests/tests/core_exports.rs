//! The core imports nothing, shown on a module that exports every operation of it, and every operation is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs};

use cim_keys_core::nkey::{KeyPair, Kind};
use cim_keys_tests::tools::workspace_root;
use cim_keys_tests::{operations, wasm};

/// What `exports.txt` says: operations by export, and those left out with the reason.
struct List {
    exports: BTreeMap<String, BTreeSet<String>>,
    left_out: BTreeMap<String, String>,
}

/// Lines: `export: operation operation …`, or `- operation: reason`; `#` begins a comment.
fn list() -> List {
    let path = workspace_root().join("tests/core-exports/exports.txt");
    let text = fs::read_to_string(path).expect("exports.txt");
    let mut list = List { exports: BTreeMap::new(), left_out: BTreeMap::new() };
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(rest) = line.strip_prefix("- ") {
            let (operation, reason) = rest.split_once(": ").expect("a reason");
            list.left_out.insert(operation.to_owned(), reason.to_owned());
        } else {
            let (export, operations) = line.split_once(':').expect("a colon behind the export");
            let operations = operations.split_whitespace().map(str::to_owned).collect();
            assert!(list.exports.insert(export.to_owned(), operations).is_none(), "{export} stands twice");
        }
    }
    list
}

/// Builds the module; cheap when nothing changed.
fn module() -> PathBuf {
    let cargo = env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
    let mut build = Command::new(cargo);
    build.current_dir(workspace_root()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    build.args(["build", "--locked", "--package", "core-exports", "--target", "wasm32-unknown-unknown"]);
    build.args(["--message-format", "json-render-diagnostics"]);
    let output = build.output().expect("cargo runs");
    assert!(output.status.success(), "core-exports does not build for wasm32-unknown-unknown");
    // Cargo says where it put the module.
    let messages = String::from_utf8(output.stdout).expect("JSON lines");
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["filenames"][0].as_str().map(str::to_owned))
        .find(|file| file.ends_with("core_exports.wasm"))
        .expect("cargo names the module")
        .into()
}

/// Runs with nothing to import, and prints what an export answers.
const CALL: &str = r#"
const [file, name, input] = process.argv.slice(1);
const { instance } = await WebAssembly.instantiate(await (await import("node:fs/promises")).readFile(file), {});
const bytes = new TextEncoder().encode(input);
const address = instance.exports.cim_allocate(bytes.length);
new Uint8Array(instance.exports.memory.buffer, address, bytes.length).set(bytes);
const answer = instance.exports[name](address, bytes.length);
const [place, length] = [Number(answer >> 32n), Number(answer & 0xffffffffn)];
console.log(new TextDecoder().decode(new Uint8Array(instance.exports.memory.buffer, place, length)));
instance.exports.cim_release(place, length);
"#;

#[test]
fn the_core_imports_nothing_and_exports_what_the_list_says() {
    let doors = wasm::doors(&fs::read(module()).expect("the module")).expect("a wasm module");
    assert_eq!(doors.imports, [""; 0], "the core reaches outside");
    let exported: BTreeSet<String> = doors.functions.into_iter().collect();
    let listed: BTreeSet<String> = list().exports.into_keys().collect();
    assert_eq!(exported, listed, "exports of the module, exports of exports.txt");
    assert!(exported.len() > 80, "a module that exports little proves little");
}

#[test]
fn the_list_names_every_operation_of_the_source_and_no_other() {
    let found = operations::of_folder(&workspace_root().join("core/src")).expect("the core's source");
    let list = list();
    let mut listed: BTreeSet<String> = list.exports.values().flatten().cloned().collect();
    for (operation, reason) in &list.left_out {
        assert!(reason.len() > 10, "{operation} is left out without a reason");
        assert!(listed.insert(operation.clone()), "{operation} is left out and exported");
    }
    let missing: Vec<_> = found.difference(&listed).collect();
    assert!(missing.is_empty(), "not exported, nor left out with a reason: {missing:#?}");
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "no longer in the source: {gone:#?}");
}

#[test]
fn each_export_runs_the_operations_it_stands_for() {
    let folder = workspace_root().join("tests/core-exports/src");
    let mut bodies: BTreeMap<String, String> = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("the source of core-exports") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("a source file");
        let mut current = None;
        for line in text.lines() {
            // An export begins in column 4, inside `exports!` or `commands!`, or is a function of lib.rs.
            let start =
                line.strip_prefix("    ").or(line.strip_prefix("pub extern \"C\" fn ")).unwrap_or_default();
            let name: String = start.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if start.starts_with(char::is_lowercase) && start[name.len()..].starts_with('(') {
                current = Some(name);
            } else if line.starts_with('}') {
                current = None;
            }
            if let Some(name) = &current {
                let body = bodies.entry(name.clone()).or_default();
                body.push_str(line);
                body.push('\n');
            }
        }
    }
    for (export, operations) in list().exports {
        let body =
            bodies.get(&export).unwrap_or_else(|| panic!("{export} is not in the source of core-exports"));
        let words: BTreeSet<&str> = body.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for operation in operations {
            let last = operation.rsplit("::").next().unwrap_or_default();
            assert!(words.contains(last), "{export} does not run {operation}:\n{body}");
        }
    }
}

#[test]
fn the_module_runs_where_there_is_nothing_and_answers_as_the_core_does_here() {
    let mut node = Command::new("node");
    node.args(["--input-type=module", "--eval", CALL]).arg(module());
    let entropy = [7u8; 32];
    let arguments = serde_json::json!(["user", entropy]).to_string();
    let output = node.args(["nkey_from_entropy", &arguments]).output().expect("node runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let here = KeyPair::from_entropy(Kind::User, entropy);
    assert_eq!(answer, serde_json::json!({ "ok": [here.public_key(), here.seed().expose()] }));
}
