//! Bundles: made in a sandbox, taken in by the real program, published once.

use cim_keys::ambient::Ambient;
use cim_keys::host::Host;
use cim_keys::nats::role;
use cim_keys::nats::target::Target;
use cim_keys::store::Store;
use cim_keys::vault::Vault;
use cim_keys_core::bundle::{self, Bundle};
use cim_keys_core::headers::CIM_EVENT_ID;
use cim_keys_core::registry::Entity;
use cim_keys_core::roles::{EDGE_API_PREFIX, PipelineRole};
use cim_keys_tests::desk::block_on;
use cim_keys_tests::ledger::Ledger;
use cim_keys_tests::program::{Person, Said, said};
use cim_keys_tests::sandbox;
use cim_keys_tests::server::{NatsServer, Setup};
use cim_keys_tests::tools::{Version, workspace_root};
use cim_keys_tests::wasm;
use futures::StreamExt as _;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// All that a program without files, clock, randomness and network asks of WASI: its arguments, its three streams, its end.
/// (The environment is asked for by the standard library, and empty.)
const DOORS: [&str; 7] = [
    "wasi_snapshot_preview1.args_get",
    "wasi_snapshot_preview1.args_sizes_get",
    "wasi_snapshot_preview1.environ_get",
    "wasi_snapshot_preview1.environ_sizes_get",
    "wasi_snapshot_preview1.fd_read",
    "wasi_snapshot_preview1.fd_write",
    "wasi_snapshot_preview1.proc_exit",
];

/// What a sandbox made: a file with the bundle, and the plan that gives the rest.
struct Made {
    plan: Value,
    file: String,
    bundle: Bundle,
}

impl Made {
    fn new(folder: &Path) -> Self {
        let plan = sandbox::plan();
        let text = ok(sandbox::wasi(&["bundle"], &plan)).stdout;
        let file = folder.join("example.bundle");
        fs::write(&file, &text).unwrap();
        let bundle = bundle::decode(text.as_bytes()).unwrap();
        Self { plan, file: file.to_str().unwrap().to_owned(), bundle }
    }

    /// A host that takes it in, with its seeds.
    fn taken_in_by(&self, person: &Person) {
        let taken = person.run(&["bundle", "import", &self.file, "--output", "json"]).json();
        assert_eq!(
            (&taken["founded"], &taken["imported"], &taken["known"]),
            (&true.into(), &4.into(), &0.into())
        );
        let seeds = ok(sandbox::wasi(&["secret-seeds"], &self.plan)).stdout;
        let kept = ok(person.run_with(&["key", "import", "-", "--output", "json"], seeds.as_bytes())).json();
        assert_eq!(kept["kept"], 18);
    }

    fn event_ids(&self) -> Vec<String> {
        let envelopes = self.bundle.commands.iter().flat_map(|command| &command.envelopes);
        envelopes.map(|envelope| envelope.headers.only(CIM_EVENT_ID).unwrap().to_owned()).collect()
    }
}

/// The trail as a host has it. When a message was stored is known only to whoever read it.
fn log(person: &Person) -> Value {
    let mut trail = ok(person.run(&["log", "--payload", "--output", "json"])).json();
    for event in trail["events"].as_array_mut().unwrap() {
        event.as_object_mut().unwrap().remove("stored");
    }
    trail
}

fn ok(said: Said) -> Said {
    assert_eq!(said.status, Some(0), "{said:?}");
    said
}

/// The host over a person's store.
fn host(person: &Person) -> Host {
    let store =
        Store::open(&person.home().join(".local/share/cim-keys/registries/default/store.db")).unwrap();
    let vault = Vault::new(&person.home().join(".config/cim-keys/identity.age"));
    Host::new(store, vault, Ambient::system(), "test".parse().unwrap())
}

/// A server by the configuration that a person's program writes.
fn serve(person: &Person) -> NatsServer {
    let words = ["config", "server", "--store-dir", "/own", "--resolver-dir", "/own/accounts"];
    let text = ok(person.run(&words)).stdout;
    Setup::configured(Version::Newest, move |folder| text.replace("/own", &folder.to_string_lossy())).start()
}

/// Everything on the stream, read as the host role.
fn ledger(person: &Person, server: &NatsServer) -> Ledger {
    let target = role::target(&host(person), PipelineRole::Host, &Target::open(&server.url())).unwrap();
    Ledger::read_as(&target, server, EDGE_API_PREFIX)
}

/// Connects with the text of creds, and sends a message to itself.
fn converse(creds: &str, server: &NatsServer) {
    block_on(async {
        let options = async_nats::ConnectOptions::with_credentials(creds).unwrap();
        let client = options.connect(server.url()).await.unwrap();
        let mut heard = client.subscribe("orders.new").await.unwrap();
        client.publish("orders.new", "one".into()).await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(heard.next().await.unwrap().payload, "one");
    });
}

#[test]
fn the_sandbox_has_no_door_but_its_arguments_and_streams() {
    let doors = wasm::doors(&fs::read(sandbox::module()).unwrap()).unwrap();
    let found: BTreeSet<&str> = doors.imports.iter().map(String::as_str).collect();
    assert_eq!(found, DOORS.into());
    let plan = sandbox::plan();
    for words in [&["bundle"][..], &["secret-seeds"], &["secret-creds", "APP/bob"]] {
        let (here, there) = (ok(sandbox::native(words, &plan)), ok(sandbox::wasi(words, &plan)));
        assert!(here.stdout.len() > 1000, "{words:?}");
        assert_eq!(here.stdout, there.stdout, "{words:?}");
        assert_eq!(ok(sandbox::wasi(words, &plan)).stdout, there.stdout, "{words:?} again");
    }
    for (words, status) in [(&["secret-creds", "APP/eve"][..], 3), (&["nothing"], 2)] {
        let (here, there) = (sandbox::native(words, &plan), sandbox::wasi(words, &plan));
        assert_eq!((here.status, there.status), (Some(status), Some(status)));
        assert!(!here.stderr.is_empty() && here.stderr == there.stderr);
    }
}

#[test]
fn the_wasm_host_in_plain_node_makes_the_same() {
    let plan = sandbox::plan();
    let bundle = ok(sandbox::native(&["bundle"], &plan)).stdout;
    assert!(bundle.starts_with("cim-keys-bundle 1 "));
    assert_eq!(ok(sandbox::javascript(&[], &plan)).stdout, bundle);
    let words = ["secret-creds", "APP/alice"];
    assert_eq!(ok(sandbox::javascript(&words, &plan)).stdout, ok(sandbox::native(&words, &plan)).stdout);
}

#[test]
fn a_bundle_is_published_once_though_taken_in_twice_and_on_two_hosts() {
    let (one, two) = (Person::new(), Person::new());
    let made = Made::new(one.home());
    made.taken_in_by(&one);
    let again = one.run(&["bundle", "import", &made.file, "--output", "json"]).json();
    assert_eq!(
        (&again["founded"], &again["imported"], &again["known"]),
        (&false.into(), &0.into(), &4.into())
    );
    let server = serve(&one);
    made.taken_in_by(&two);
    // A user of each host's own, behind what the bundle brought.
    for (person, name) in [(&one, "one"), (&two, "two")] {
        let renew = ["access", "renew", "--role", "host", "--server", &server.url(), "--out", "host.creds"];
        ok(person.run(&renew));
        ok(person.run(&["user", "create", name, "--account", "APP"]));
    }
    let sync = ["sync", "--context", "./host.json", "--output", "json"];
    let running = [one.start(&sync), two.start(&sync)];
    let mut published = 0;
    for run in running {
        published += run.end().json()["published"].as_u64().unwrap();
    }
    for person in [&one, &two] {
        let more = person.run(&sync).json();
        assert_eq!((&more["published"], &more["pending"], &more["held"]), (&0.into(), &0.into(), &0.into()));
        let known = person.run(&["bundle", "import", &made.file, "--output", "json"]).json();
        assert_eq!((&known["imported"], &known["known"]), (&0.into(), &4.into()));
        assert_eq!(person.run(&sync).json()["published"], 0);
    }

    let ledger = ledger(&one, &server);
    let audit = ledger.audit(&made.bundle.registry);
    assert_eq!(audit.anomalies, []);
    let ids: Vec<&str> = ledger.messages.iter().map(|m| m.headers.only(CIM_EVENT_ID).unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "each event stands once");
    // What both had is in order, byte for byte, and each host's own two events stand behind it.
    let bundled = made.event_ids();
    assert_eq!(ids.len(), bundled.len() + 4);
    assert!(published >= ids.len() as u64, "{published} known to be published by either");
    assert_eq!(ids[..bundled.len()], bundled);
    let envelopes = made.bundle.commands.iter().flat_map(|command| &command.envelopes);
    for (message, envelope) in ledger.messages.iter().zip(envelopes) {
        assert_eq!((&message.subject[..], &message.payload), (envelope.subject.as_str(), &envelope.payload));
    }
    let names: BTreeSet<&str> = audit.registry.entities().map(Entity::name).collect();
    assert!(["Example", "APP", "alice", "bob", "one", "two"].iter().all(|name| names.contains(name)));
    assert_eq!(log(&one), log(&two));

    for name in ["alice", "bob"] {
        converse(&ok(sandbox::wasi(&["secret-creds", &format!("APP/{name}")], &made.plan)).stdout, &server);
    }
}

#[test]
fn exports_that_overlap_are_published_once_whichever_comes_first() {
    let one = Person::new();
    ok(one.run(&["init", "--name", "Example"]));
    ok(one.run(&["account", "create", "APP"]));
    let (two, three) = (one.twin(), one.twin());
    for name in ["first", "second"] {
        ok(one.run(&["user", "create", name, "--account", "APP"]));
        let file = format!("{name}.bundle");
        ok(one.run(&["bundle", "export", "--out", &file]));
        for other in [&two, &three] {
            std::fs::copy(one.home().join(&file), other.home().join(&file)).unwrap();
        }
    }
    let take = |person: &Person, file: &str| {
        let taken = ok(person.run(&["bundle", "import", file, "--output", "json"])).json();
        (taken["imported"].as_u64().unwrap(), taken["known"].as_u64().unwrap())
    };
    // The registry and its account, then a user a file: the second file has all of it.
    assert_eq!((take(&two, "first.bundle"), take(&two, "second.bundle")), ((1, 2), (1, 3)));
    assert_eq!((take(&three, "second.bundle"), take(&three, "first.bundle")), ((2, 2), (0, 3)));
    let server = NatsServer::plain();
    let url = server.url();
    let sync = ["sync", "--server", &url, "--output", "json"];
    let first = two.run(&sync).json()["published"].as_u64().unwrap();
    for person in [&one, &three, &two] {
        // It was published by somebody else: known as its own all the same.
        let synced = person.run(&sync).json();
        assert_eq!(
            (&synced["pending"], &synced["held"], &synced["head"]),
            (&0.into(), &0.into(), &first.into()),
            "{synced}"
        );
        // What comes once more, when it is on the stream long since, changes nothing.
        assert_eq!((take(person, "second.bundle"), take(person, "first.bundle")), ((0, 4), (0, 3)));
        assert_eq!(person.run(&sync).json()["head"], first);
    }
}

#[test]
fn bundles_are_refused_where_they_do_not_belong() {
    let (one, two, stranger, nobody) = (Person::new(), Person::new(), Person::new(), Person::new());
    let made = Made::new(one.home());
    made.taken_in_by(&one);
    made.taken_in_by(&two);
    ok(stranger.run(&["init"]));
    let server = NatsServer::plain();
    let url = server.url();
    ok(one.run(&["sync", "--server", &url]));
    ok(one.run(&["account", "create", "MORE"]));
    ok(one.run(&["bundle", "export", "--out", "more.bundle"]));
    let more = one.home().join("more.bundle").to_str().unwrap().to_owned();
    let good = fs::read_to_string(&made.file).unwrap();
    let write = |name: &str, text: String| {
        let path = one.home().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let damaged = write("damaged", good.replacen("alice", "alicf", 1));
    let newer = write("newer", good.replacen("cim-keys-bundle 1", "cim-keys-bundle 7", 1));
    // Whoever mends the checksum still cannot sign.
    let forged = bundle::encode(&Bundle {
        commands: made
            .bundle
            .commands
            .iter()
            .cloned()
            .map(|mut command| {
                command.context.actor = "mallory".parse().unwrap();
                command
            })
            .collect(),
        ..made.bundle.clone()
    });
    let forged = write("forged", String::from_utf8(forged.unwrap()).unwrap());
    let cases: [(&Person, &str, i32, &str); 8] = [
        (&stranger, &made.file, 5, "a registry was founded in"),
        (&stranger, &more, 5, "the bundle belongs to the registry"),
        (&stranger, &damaged, 8, "checksum"),
        (&nobody, &more, 4, "the bundle founds none"),
        (&nobody, &damaged, 8, "checksum"),
        (&nobody, &newer, 5, "upgrade"),
        (&nobody, &forged, 8, "not what it says"),
        (&two, &forged, 8, "not what it says"),
    ];
    let before = (log(&stranger), log(&two));
    for (person, file, status, word) in cases {
        let said = person.run(&["bundle", "import", file]);
        assert_eq!(said.status, Some(status), "{file}: {said:?}");
        assert!(said.stderr.contains(word) && said.stdout.is_empty(), "{file}: {said:?}");
    }
    assert_eq!((log(&stranger), log(&two)), before);
    assert!(!nobody.home().join(".local").exists(), "a refused bundle leaves nothing behind");

    // To its own registry it may come before anything was published, or after.
    assert_eq!(two.run(&["bundle", "import", &more, "--output", "json"]).json()["imported"], 1);
    ok(two.run(&["sync", "--server", &url]));
    assert_eq!(one.run(&["sync", "--server", &url, "--output", "json"]).json()["pending"], 0);
    assert_eq!(log(&one), log(&two));
}

#[test]
fn what_somebody_else_was_first_with_is_held_and_given_up() {
    let (minter, importer, rival) = (Person::new(), Person::new(), Person::new());
    let made = Made::new(minter.home());
    [&minter, &importer, &rival].iter().for_each(|person| made.taken_in_by(person));
    let server = NatsServer::plain();
    let url = server.url();
    let sync = ["sync", "--server", &url, "--output", "json"];
    ok(minter.run(&sync));
    let minted = minter.run(&["account", "create", "SAME", "--output", "json"]).json();
    let id = minted["command_id"].as_str().unwrap();
    ok(minter.run(&["bundle", "export", "--out", "same.bundle"]));
    ok(importer.run(&["bundle", "import", minter.home().join("same.bundle").to_str().unwrap()]));
    ok(rival.run(&["account", "create", "SAME"]));
    ok(rival.run(&sync));
    assert_eq!(importer.run(&sync).json()["held_commands"][0]["command_id"], id);
    let status = ok(importer.run(&["status"])).stdout;
    assert!(status.contains(&format!("cim-keys held drop {id}")), "{status}");
    let held = || importer.run(&["status", "--output", "json"]).json()["held"].clone();
    ok(importer.run(&["held", "drop", id, "--dry-run"]));
    assert_eq!(held(), 1);
    assert_eq!(importer.run(&["held", "drop", id, "--output", "json"]).json()["command_id"], id);
    assert_eq!(held(), 0);
    let twice = importer.run(&["held", "drop", id]);
    assert!(twice.status == Some(4) && twice.stderr.contains("it is dropped"), "{twice:?}");
    // Another one under another name, as a person would.
    ok(importer.run(&["account", "create", "OTHER"]));
    assert_eq!(importer.run(&sync).json()["published"], 2);
    assert_eq!(minter.run(&sync).json()["held"], 1);
    // It went out in a bundle: giving it up takes an event, which the others read.
    let own = minter.run(&["held", "drop", id, "--output", "json"]).json();
    assert_eq!(own["voiding"]["events"][0]["event_type"], "keys.command.voided");
    assert_eq!(minter.run(&sync).json()["published"], 1);
    assert_eq!(importer.run(&sync).json()["held"], 0);
    ok(rival.run(&sync));
    assert_eq!((log(&minter), log(&importer)), (log(&rival), log(&rival)));
}

#[test]
fn the_way_that_the_readme_shows_is_walked() {
    let readme = fs::read_to_string(workspace_root().join("README.md")).unwrap();
    let (_, section) = readme.split_once("### Made in a sandbox, without a network\n").unwrap();
    let section = section.split("\n#").next().unwrap();
    let blocks: Vec<&str> = section.split("```\n").skip(1).step_by(2).collect();
    let [sandboxed, carried] = blocks.as_slice() else { panic!("two blocks: {section}") };
    // What `cargo build` would put there, built in the tests' own profile.
    let (build, made) = sandboxed.split_once('\n').unwrap();
    assert_eq!(build, "cargo build --release --package cim-keys-sandbox --target wasm32-wasip1");
    let person = Person::new();
    let place = person.home().join("target/wasm32-wasip1/release");
    fs::create_dir_all(&place).unwrap();
    std::os::unix::fs::symlink(sandbox::module(), place.join("cim-keys-sandbox.wasm")).unwrap();
    std::os::unix::fs::symlink(workspace_root().join("sandbox"), person.home().join("sandbox")).unwrap();
    ok(said(person.shell(made).output().unwrap()));

    let (before, after) = carried.split_once("nats-server -c server.conf &\n").unwrap();
    ok(said(person.shell(before).output().unwrap()));
    let configuration = fs::read_to_string(person.home().join("server.conf")).unwrap();
    let server = Setup::configured(Version::Newest, move |_| configuration.clone()).start();
    let synced = ok(said(person.shell(after).env("NATS_URL", server.url()).output().unwrap()));
    assert!(synced.stdout.contains("published  18 events of 4 commands"), "{synced:?}");
    let creds = fs::read_to_string(person.home().join("alice.creds")).unwrap();
    converse(&creds, &server);
    let modes = ["plan.json", "alice.creds", "example.seeds"].map(|name| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(person.home().join(name)).unwrap().permissions().mode() & 0o777
    });
    assert_eq!(modes, [0o600; 3]);
    let seeds = fs::read_to_string(person.home().join("example.seeds")).unwrap();
    let bundle = fs::read_to_string(person.home().join("example.bundle")).unwrap();
    let words: BTreeMap<&str, &str> = seeds.lines().filter_map(|line| line.split_once(' ')).collect();
    assert!(words.len() == 17 && words.keys().all(|seed| !bundle.contains(seed)));
}
