//! Which crate may know which. docs/architecture.md has the picture; this holds it.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// What a crate may depend on in production code. Tests may use anything, `testkit` and `simulators` included.
fn allowed(from: &str) -> &'static [&'static str] {
    match from {
        "event" | "trust" | "simulators" | "schema" => &[],
        "testkit" => &["schema"],
        "runtime" => &["trust"],
        "worker" => &["event"],
        "broker" => &["event", "worker", "trust"],
        "store" => &["event", "worker", "trust", "schema"],
        "inbound" | "outbound" => &["event", "worker"],
        "sync" => &["event", "worker", "store"],
        // What a worker tells of itself.
        "registry" => &["event", "worker", "sync", "outbound", "runtime"],
        // Clients of partners.
        "metakocka" => &["event", "outbound"],
        // Services know the parts they need, never each other and never AMQP itself.
        "gateway" => &["event", "worker", "store", "inbound", "broker"],
        "keeper" => &["event", "worker", "store", "broker"],
        "metakocka-sync" => &[
            "event",
            "worker",
            "store",
            "sync",
            "outbound",
            "runtime",
            "registry",
            "metakocka",
        ],
        // What people do with a fleet, for whoever shows it.
        "operations" => &["worker", "store", "outbound", "runtime", "registry"],
        // The only binary: wiring, and `kurir simulate`.
        "kurir" => &[
            "event",
            "worker",
            "sync",
            "broker",
            "store",
            "outbound",
            "inbound",
            "runtime",
            "trust",
            "registry",
            "simulators",
            "gateway",
            "metakocka-sync",
            "keeper",
            "operations",
        ],
        unknown => panic!("{unknown} is new: add it here and to docs/architecture.md"),
    }
}

/// Libraries that belong to one room.
const OWNED: &[(&str, &[&str])] = &[
    ("lapin", &["broker", "testkit"]),
    ("sqlx", &["store", "schema", "testkit"]),
    // kurir: its own calls to the gateway and the management API. runtime: the collector of traces.
    ("reqwest", &["outbound", "testkit", "kurir", "runtime"]),
    ("axum", &["inbound", "gateway", "simulators", "testkit"]),
    ("opentelemetry", &["runtime"]),
    ("opentelemetry_sdk", &["runtime"]),
    ("opentelemetry-otlp", &["runtime"]),
    ("tracing-opentelemetry", &["runtime"]),
    ("opentelemetry-proto", &["testkit"]),
    ("backoff", &["worker", "outbound"]),
    ("aes-gcm", &["store"]),
    ("config", &["runtime"]),
    ("clap", &["kurir"]),
];

fn workspace() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    command.no_deps();
    command.other_options(["--offline".to_owned(), "--locked".to_owned()]);
    command.exec().unwrap()
}

fn used(package: &Package) -> BTreeSet<String> {
    let in_production = |kind| matches!(kind, DependencyKind::Normal | DependencyKind::Build);
    package
        .dependencies
        .iter()
        .filter(|one| in_production(one.kind))
        .map(|one| one.name.clone())
        .collect()
}

#[test]
fn crates_know_only_what_they_may() {
    let workspace = workspace();
    let members: BTreeMap<String, BTreeSet<String>> = workspace
        .packages
        .iter()
        .map(|package| (package.name.to_string(), used(package)))
        .collect();
    assert!(members.len() >= 15, "the workspace has its rooms");
    let mut wrong = Vec::new();
    for (from, uses) in &members {
        for to in uses.iter().filter(|name| members.contains_key(*name)) {
            if !allowed(from).contains(&to.as_str()) {
                wrong.push(format!("{from} -> {to}"));
            }
        }
        for (library, owners) in OWNED {
            if uses.contains(*library) && !owners.contains(&from.as_str()) {
                wrong.push(format!("{from} -> {library}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "edges that docs/architecture.md does not allow: {wrong:?}"
    );
}

#[test]
fn there_is_one_binary_and_folders_have_their_crates_names() {
    let workspace = workspace();
    let mut binaries = Vec::new();
    for package in &workspace.packages {
        let folder = package.manifest_path.parent().unwrap().file_name().unwrap();
        assert_eq!(folder, package.name.as_str());
        binaries.extend(
            package
                .targets
                .iter()
                .filter(|target| target.is_bin())
                .map(|target| target.name.clone()),
        );
    }
    assert_eq!(binaries, ["kurir"]);
}
