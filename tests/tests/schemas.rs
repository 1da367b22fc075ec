//! The committed schemas are those that the types give, what was published under them is valid, and nothing else is.
//! `UPDATE_VECTORS=1` writes the files anew, for a person to look at the difference.

use base64ct::{Base64, Encoding};
use cim_keys_core::schema::{EventSchema, asyncapi, event_schemas};
use cim_keys_core::subjects::{Namespace, Subject};
use cim_keys_tests::program::Person;
use cim_keys_tests::tools::workspace_root;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

fn json_file(path: &str) -> Value {
    let text =
        fs::read_to_string(workspace_root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn file_name(schema: &EventSchema) -> String {
    format!("schemas/{}.{}.json", schema.event_type, schema.version)
}

/// What somebody else's validator makes of the documents, by type of event.
fn validators() -> BTreeMap<String, Validator> {
    let build = |schema: EventSchema| {
        let options = jsonschema::options().should_validate_formats(true);
        (schema.event_type, options.build(&schema.document).expect("a JSON Schema"))
    };
    event_schemas().into_iter().map(build).collect()
}

/// Every payload of the golden stream and of the event whose form never changes, with its headers.
fn golden() -> Vec<(Value, Value)> {
    let headers = |list: &Value| -> Value {
        let pairs = list.as_array().expect("headers").iter();
        pairs.map(|pair| (pair[0].as_str().expect("a name").to_owned(), pair[1].clone())).collect()
    };
    let stream = json_file("core/tests/data/conformance.json")["stream"].take();
    let mut all: Vec<(Value, Value)> = stream
        .as_array()
        .expect("messages")
        .iter()
        .map(|message| {
            let payload =
                Base64::decode_vec(message["payload"].as_str().expect("a payload")).expect("base64");
            (headers(&message["headers"]), serde_json::from_slice(&payload).expect("JSON"))
        })
        .collect();
    let raised = json_file("core/tests/data/schema.json");
    let payload = serde_json::from_str(raised["payload"].as_str().expect("a payload")).expect("JSON");
    all.push((headers(&raised["event"]["headers"]), payload));
    all
}

#[test]
fn the_files_are_what_the_types_give() {
    let mut documents: BTreeMap<String, Value> =
        event_schemas().into_iter().map(|schema| (file_name(&schema), schema.document)).collect();
    documents.insert("schemas/asyncapi.json".to_owned(), asyncapi(&Namespace::default()));
    for (path, document) in &documents {
        let text = serde_json::to_string_pretty(document).unwrap() + "\n";
        let file = workspace_root().join(path);
        if std::env::var_os("UPDATE_VECTORS").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &text).unwrap();
        }
        let found = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            found == text,
            "{path} is not what the types give; UPDATE_VECTORS=1 writes it anew, look at the difference"
        );
    }
    // Whatever else lies there is a schema of an older version: one that a newer one has replaced.
    for entry in fs::read_dir(workspace_root().join("schemas")).unwrap() {
        let name = format!("schemas/{}", entry.unwrap().file_name().to_string_lossy());
        let older = event_schemas().iter().any(|schema| {
            (1..schema.version).any(|version| file_name(&EventSchema { version, ..schema.clone() }) == name)
        });
        assert!(older || documents.contains_key(&name), "{name} is nobody's");
    }
}

#[test]
fn what_was_published_is_valid() {
    let validators = validators();
    let mut seen = BTreeSet::new();
    for (_, payload) in golden() {
        let kind = payload["type"].as_str().unwrap().to_owned();
        let errors: Vec<String> =
            validators[&kind].iter_errors(&payload).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{kind}: {errors:?}");
        assert_eq!(payload["dataschema"], json_file(&format!("schemas/{kind}.1.json"))["$id"]);
        seen.insert(kind);
    }
    assert_eq!(seen, validators.keys().cloned().collect(), "every type has a golden payload");
}

/// Every object inside, by its place.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    if let Value::Object(members) = value {
        found.push(at.to_owned());
        members.iter().for_each(|(name, member)| places(member, &format!("{at}/{name}"), found));
    }
}

#[test]
fn what_is_no_such_event_is_not_valid() {
    let validators = validators();
    // One of each shape.
    let mut shapes = BTreeMap::new();
    for (_, payload) in golden() {
        let mut members = Vec::new();
        places(&payload, "", &mut members);
        members.push(payload["type"].to_string());
        members.extend(payload["data"]["facts"].as_object().unwrap().keys().cloned());
        members.push(payload["data"]["token"]["replaces"].is_null().to_string());
        shapes.insert(members, payload);
    }
    assert!(shapes.len() > validators.len(), "{}", shapes.len());
    for payload in shapes.into_values() {
        let kind = payload["type"].as_str().unwrap();
        let refused = |changed: &Value, what: &str| {
            assert!(!validators[kind].is_valid(changed), "{kind}: {what} is valid");
        };
        let mut objects = Vec::new();
        places(&payload, "", &mut objects);
        for place in objects {
            // A member more; each member gone, or of another JSON type. What may be missing is named.
            let mut more = payload.clone();
            more.pointer_mut(&place).unwrap()["more"] = json!("something");
            refused(&more, &format!("{place} with a member more"));
            for name in payload.pointer(&place).unwrap().as_object().unwrap().keys() {
                let mut less = payload.clone();
                less.pointer_mut(&place).unwrap().as_object_mut().unwrap().remove(name);
                let optional = matches!(
                    (kind, name.as_str()),
                    (_, "replaces")
                        | ("keys.key.generated", "owner" | "label")
                        | ("keys.command.voided", "account")
                );
                assert_eq!(validators[kind].is_valid(&less), optional, "{kind}: without {place}/{name}");
                let mut other = payload.clone();
                other.pointer_mut(&place).unwrap()[name.as_str()] = json!([1]);
                refused(&other, &format!("{place}/{name} as a list"));
                other.pointer_mut(&place).unwrap()[name.as_str()] = Value::Null;
                refused(&other, &format!("{place}/{name} as null"));
            }
        }
        // Texts that are almost right.
        for (place, text) in [
            ("/id", "01990000"),
            ("/registryid", "AAAA"),
            ("/time", "2026-11-23 08:50:08"),
            ("/data/command/hash", "short"),
            ("/signatures", "x.y.z"),
            ("/source", "somebody"),
            ("/dataschema", "urn:cim-keys:schema:keys.user.created:9"),
        ] {
            let mut other = payload.clone();
            *other.pointer_mut(place).unwrap() = json!(text);
            refused(&other, &format!("{place} {text}"));
        }
        // And no other type takes it.
        for (name, validator) in validators.iter().filter(|(name, _)| name.as_str() != kind) {
            assert!(!validator.is_valid(&payload), "{kind} is a valid {name}");
        }
    }
}

#[test]
fn the_stream_is_described_as_asyncapi_says() {
    let namespace: Namespace = "acme.platform".parse().unwrap();
    let document = asyncapi(&namespace);
    // By the specification's own schema, which comes with the page's packages.
    let specification = json_file("www/node_modules/@asyncapi/specs/schemas/3.0.0.json");
    let validator = jsonschema::options().build(&specification).expect("the specification's schema");
    let errors: Vec<String> =
        validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let mut broken = document.clone();
    broken["operations"]["send_keysUserCreated"]["action"] = json!("shout");
    assert!(!validator.is_valid(&broken));
    // Every reference leads somewhere, and every channel is a subject of ours.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, member)| match member {
                Value::String(text) if name == "$ref" => found.push(text.clone()),
                other => references(other, found),
            }),
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let outside_of_schemas = |document: &Value| {
        let mut document = document.clone();
        document["components"]["schemas"].take();
        document
    };
    let mut found = Vec::new();
    references(&outside_of_schemas(&document), &mut found);
    for reference in &found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
    let channels = document["channels"].as_object().unwrap();
    assert_eq!(channels.len(), 2 * event_schemas().len());
    for channel in channels.values() {
        let subject: Subject = channel["address"].as_str().unwrap().parse().expect("a subject");
        assert_eq!(subject.namespace(), namespace);
    }
    // The seven headers of what was published are as they are described.
    let headers = &document["components"]["schemas"]["headers"];
    let validator = jsonschema::options().should_validate_formats(true).build(headers).unwrap();
    for (headers, _) in golden() {
        assert!(validator.is_valid(&headers), "{headers}");
        for name in headers.as_object().unwrap().keys() {
            let mut less = headers.clone();
            less.as_object_mut().unwrap().remove(name);
            assert!(!validator.is_valid(&less), "without {name}");
        }
    }
}

#[test]
fn the_program_prints_them() {
    let person = Person::new();
    let printed = |words: &[&str]| person.run(words).json();
    for schema in event_schemas() {
        assert_eq!(printed(&["schema", "print", &schema.event_type]), json_file(&file_name(&schema)));
    }
    assert_eq!(printed(&["schema", "print", "asyncapi"]), json_file("schemas/asyncapi.json"));
    let elsewhere = printed(&["schema", "print", "asyncapi", "--namespace", "acme.platform"]);
    assert_eq!(elsewhere["channels"]["keysUserCreated"]["address"], "acme.platform.keys.user.created");
    let names = printed(&["schema", "print", "--output", "json"]);
    assert_eq!(names["schemas"].as_array().unwrap().len(), event_schemas().len() + 1);
    let unknown = person.run(&["schema", "print", "keys.user.eaten"]);
    assert_eq!(unknown.status, Some(2), "{unknown:?}");
    assert!(unknown.stderr.contains("cim-keys schema print"), "{unknown:?}");
}
