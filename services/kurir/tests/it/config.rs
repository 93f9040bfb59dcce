//! `kurir config` and `kurir keys`: what is in force, and every mistake at once, before anything is opened.

use crate::run::kurir;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[test]
fn shows_what_is_in_force_and_no_secret() {
    let environment = [
        ("KURIR_AMQP_URL", "amqp://kurir:geheim@127.0.0.1:5672/%2f"),
        ("KURIR_WORKER__SLOTS", "8"),
        ("KURIR_KEYS__CURRENT", "k1"),
        ("KURIR_KEYS__RING__K1", KEY),
    ];
    let shown = kurir(&["config"], &environment, "").ok();
    assert!(!shown.contains("geheim") && !shown.contains(KEY), "{shown}");
    insta::assert_snapshot!(shown);
    let json = kurir(&["config", "--json"], &environment, "").json();
    assert_eq!(
        json["worker.slots"],
        serde_json::json!({ "value": 8, "from": "KURIR_WORKER__SLOTS" })
    );
}

#[test]
fn the_printed_defaults_are_a_valid_settings_file() {
    let defaults = kurir(&["config", "--defaults"], &[], "").ok();
    let path = std::env::temp_dir().join(format!("kurir-defaults-{}.toml", std::process::id()));
    std::fs::write(&path, defaults).unwrap();
    let shown = kurir(
        &["config", "--json", "--config", path.to_str().unwrap()],
        &[],
        "",
    )
    .json();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(shown["sync.lease_seconds"]["value"], 30);
    assert_eq!(shown["sync.lease_seconds"]["from"], path.to_str().unwrap());
}

#[test]
fn a_role_with_wrong_settings_names_all_of_them_and_opens_nothing() {
    let environment = [
        ("KURIR_AMQP_URL", "amqp://kurir:geheim@127.0.0.1:1/%2f"),
        ("KURIR_DATABASE_URL", "geheim"),
        ("KURIR_WORKER__SLOTS", "0"),
        ("KURIR_WORKR__SLOTS", "4"),
    ];
    let ran = kurir(&["migrate"], &environment, "");
    assert!(!ran.shown().contains("geheim"));
    insta::assert_snapshot!(ran.shown(), @r"
    exit 78
    --- out
    --- err
    error: 3 configuration errors:
      database.url: must be postgres://user:password@host:port/database; the value (from KURIR_DATABASE_URL) is not shown here
      worker.slots: must be a whole number from 1 to 1024, not 0 (from KURIR_WORKER__SLOTS)
      workr.slots: is no setting; did you mean worker.slots? (from KURIR_WORKR__SLOTS)
      `kurir config --help` explains where settings come from
    ");
}

#[test]
fn a_new_key_is_usable_as_printed() {
    let printed = kurir(&["keys", "new", "--id", "k-7"], &[], "").ok();
    let environment: Vec<(&str, &str)> = printed
        .lines()
        .map(|line| line.split_once('=').unwrap())
        .collect();
    let shown = kurir(&["config", "--json"], &environment, "").json();
    assert_eq!(shown["keys.current"]["value"], "k-7");
    assert_eq!(
        shown["keys.ring"]["value"],
        serde_json::json!({ "k-7": "***" })
    );
    let other = kurir(&["keys", "new", "--id", "k-7"], &[], "").ok();
    assert_ne!(printed, other);
}
