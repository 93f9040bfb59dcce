//! Settings from three layers, and everything that can be wrong with them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runtime::{Check, ConfigurationError, Kind, Need, Role, Rule, Section, Sources, load};
use serde_json::json;

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn with(pairs: &[(&str, &str)]) -> Sources {
    Sources {
        file: None,
        environment: environment(pairs),
    }
}

/// A settings file that is removed with its test.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, text: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("kurir-settings-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).expect("a writable temporary folder");
        Self(path)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A table that a service owns.
static PIGEONS: Section = Section {
    name: "pigeons",
    defaults: "[pigeons]\n# How many fly at once.\nflock = 3\nhome = \"https://loft.example/\"\n",
    rules: &[
        Rule::whole("pigeons.flock", 1, 9),
        Rule::new("pigeons.home", Kind::Url(&["https"])),
    ],
    between: |table| match table["flock"].as_u64() {
        Some(9) => vec![ConfigurationError {
            path: "pigeons.flock".to_owned(),
            problem: "must leave room in the loft".to_owned(),
        }],
        _ => Vec::new(),
    },
};

#[test]
fn a_services_own_table_is_read_checked_and_shown_with_the_others() {
    assert_eq!(PIGEONS.check(), Ok(()));
    let given = with(&[("KURIR_PIGEONS__FLOCK", "5")]);
    let loaded = load(&given, &[], &[], &[&PIGEONS]).unwrap();
    assert_eq!(
        loaded.settings.section("pigeons"),
        &json!({"flock": 5, "home": "https://loft.example/"})
    );
    let shown = loaded.shown.last().unwrap();
    assert_eq!(
        (shown.path, shown.origin.as_str()),
        ("pigeons.home", "default")
    );
    let wrong = with(&[
        ("KURIR_PIGEONS__FLOCK", "0"),
        ("KURIR_PIGEONS__NEST", "1"),
        ("KURIR_PIGEONS_HOME", "x"),
        ("KURIR_WORKER__SLOTS", "0"),
    ]);
    let refused = load(&wrong, &[], &[], &[&PIGEONS]).unwrap_err().to_string();
    for part in [
        "4 configuration errors",
        "pigeons.flock",
        "pigeons.nest",
        "KURIR_PIGEONS__HOME",
        "worker.slots",
    ] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    // Who was not told of the table knows no setting of it.
    let unknown = load(&given, &[], &[], &[]).unwrap_err().to_string();
    assert!(
        unknown.contains("pigeons.flock: is no setting"),
        "{unknown}"
    );
}

#[test]
fn a_table_whose_rules_and_defaults_differ_is_noticed() {
    const RULE: Rule = Rule::whole("pigeons.flock", 1, 9);
    let lacks_a_rule = Section {
        rules: &[RULE],
        ..PIGEONS
    };
    assert_eq!(lacks_a_rule.check(), Err(vec!["pigeons.home".to_owned()]));
    let breaks_its_rule = Section {
        defaults: "[pigeons]\nflock = 10\nhome = \"https://loft.example/\"\n",
        ..PIGEONS
    };
    assert_eq!(
        breaks_its_rule.check(),
        Err(vec!["pigeons.flock".to_owned()])
    );
}

#[test]
fn the_defaults_are_valid_and_nothing_needs_to_be_set_for_them() {
    let loaded = load(&Sources::default(), &[], &[], &[]).unwrap();
    assert_eq!(loaded.settings.worker.slots, 16);
    assert_eq!(loaded.settings.sync.recheck_after.len(), 3);
    assert_eq!(loaded.settings.health.of(Role::Up).unwrap().port(), 9090);
    assert!(loaded.settings.amqp.url.is_none());
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let file = Written::new(
        "layers",
        "[worker]\nslots = 4\nprefetch = 64\n[sync]\nrecheck_minutes = [2]\n",
    );
    let sources = Sources {
        file: Some(file.0.clone()),
        environment: environment(&[
            ("KURIR_WORKER__SLOTS", "8"),
            ("KURIR_SYNC__RECHECK_MINUTES", "1,2,3"),
            ("KURIR_HEALTH__WORKER", ""),
            ("KURIR_AMQP__PREFIX", "007"),
        ]),
    };
    let loaded = load(&sources, &[], &[], &[]).unwrap();
    assert_eq!(loaded.settings.worker.slots, 8);
    assert_eq!(loaded.settings.worker.prefetch, 64);
    assert_eq!(loaded.settings.sync.recheck_after.len(), 3);
    assert_eq!(loaded.settings.health.of(Role::Worker), None);
    // Text that looks like a number stays text.
    assert_eq!(loaded.settings.amqp.prefix, "007");
}

#[test]
fn plain_names_work_and_are_refused_beside_the_general_form() {
    let plain = with(&[
        ("KURIR_AMQP_URL", "amqp://a:b@h/%2f"),
        ("KURIR_DATABASE_URL", "postgres://h/db"),
        ("KURIR_LOG_FORMAT", "json"),
    ]);
    let loaded = load(&plain, &[Need::Amqp, Need::Database], &[], &[]).unwrap();
    assert!(loaded.settings.database.url.is_some());
    let twice = with(&[
        ("KURIR_AMQP_URL", "amqp://h"),
        ("KURIR_AMQP__URL", "amqp://h"),
    ]);
    insta::assert_snapshot!(load(&twice, &[], &[], &[]).unwrap_err(), @"
    1 configuration error:
      amqp.url: is given twice: KURIR_AMQP_URL and KURIR_AMQP__URL; unset one
    `kurir config --help` explains where settings come from
    ");
}

#[test]
fn variables_of_others_are_left_alone() {
    let loaded = load(
        &with(&[
            ("KURIR_GATEWAY_PORT", "tcp://10.0.0.1:80"),
            ("KURIR_FAILPOINT", "x:kill"),
        ]),
        &[],
        &[],
        &[],
    );
    assert!(loaded.is_ok());
}

#[test]
fn all_configuration_errors_are_named_at_once_and_no_secret_with_them() {
    let file = Written::new(
        "wrong",
        "[worker]\nslots = \"many\"\nslotz = 1\n[gateway]\nlisten = 8080\n[amqp]\nurl = \"geheim1\"\n[colour]\nred = 1\n",
    );
    let sources = Sources {
        file: Some(file.0.clone()),
        environment: environment(&[
            ("KURIR_DATABASE_URL", "mysql://root:geheim2@h/db"),
            ("KURIR_WORKER_PREFETCH", "3"),
            ("KURIR_KEYS__RING__K1", "geheim3"),
            ("KURIR_KEEPER__JANITOR", "on"),
            ("KURIR_SYNC", "x"),
        ]),
    };
    let configuration_errors = load(
        &sources,
        &[Need::Amqp, Need::Database, Need::Keys],
        &[],
        &[],
    )
    .unwrap_err()
    .to_string();
    let text = configuration_errors.replace(&file.0.display().to_string(), "FILE");
    assert!(!text.contains("geheim"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn what_whoever_uses_a_setting_objects_to_is_named_with_all_other_configuration_errors() {
    let checks = [Check {
        path: "amqp.url",
        check: |text| match text {
            "amqp://kurir:geheim@h" => Ok(()),
            _ => Err("must be another one".to_owned()),
        },
    }];
    let sources = |url| with(&[("KURIR_AMQP_URL", url), ("KURIR_WORKER__SLOTS", "0")]);
    let text = |url| {
        load(&sources(url), &[], &checks, &[])
            .unwrap_err()
            .to_string()
    };
    let refused = text("amqp://kurir:geheim@other");
    assert!(
        refused.contains(
            "amqp.url: must be another one; the value (from KURIR_AMQP_URL) is not shown here"
        ),
        "{refused}"
    );
    assert!(
        refused.contains("worker.slots") && !refused.contains("geheim"),
        "{refused}"
    );
    // Asked before the setting's own rule, whose words are fewer; and never for what is not set.
    assert!(text("[::1]").contains("must be another one"));
    for url in ["amqp://kurir:geheim@h", ""] {
        assert!(!text(url).contains("amqp.url"), "{url}");
    }
}

#[test]
fn a_broken_file_is_named_with_its_line_and_not_quoted() {
    let file = Written::new(
        "broken",
        "[amqp]\nurl = \"amqp://a:geheim@h\nprefix = \"x\"\n",
    );
    let sources = Sources {
        file: Some(file.0.clone()),
        environment: BTreeMap::new(),
    };
    let text = load(&sources, &[], &[], &[]).unwrap_err().to_string();
    assert!(
        text.contains("is not valid TOML, line 2") && !text.contains("geheim"),
        "{text}"
    );
    let missing = Sources {
        file: Some("does-not-exist.toml".into()),
        environment: BTreeMap::new(),
    };
    assert!(
        load(&missing, &[], &[], &[])
            .unwrap_err()
            .to_string()
            .contains("does-not-exist.toml: the settings file cannot be read")
    );
}

#[test]
fn settings_must_agree_with_each_other() {
    let sources = with(&[
        ("KURIR_WORKER__PREFETCH", "8"),
        ("KURIR_KEYS__CURRENT", "k2"),
        (
            "KURIR_KEYS__RING__K1",
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        ),
        ("KURIR_PIGEONS__FLOCK", "9"),
    ]);
    insta::assert_snapshot!(load(&sources, &[], &[], &[&PIGEONS]).unwrap_err());
}

#[test]
fn what_is_shown_hides_passwords_and_keys() {
    let sources = with(&[
        ("KURIR_AMQP_URL", "amqp://kurir:geheim@127.0.0.1:5672/%2f"),
        (
            "KURIR_DATABASE_URL",
            "postgres://kurir:geheim@127.0.0.1:5432/kurir",
        ),
        ("KURIR_KEYS__CURRENT", "k1"),
        (
            "KURIR_KEYS__RING__K1",
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        ),
    ]);
    let loaded = load(
        &sources,
        &[Need::Amqp, Need::Database, Need::Keys],
        &[],
        &[],
    )
    .unwrap();
    let shown: Vec<String> = loaded
        .shown
        .iter()
        .map(|one| format!("{} = {} ({})", one.path, one.value, one.origin))
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
    let debug = format!("{:?}", loaded.settings);
    assert!(
        !debug.contains("geheim") && !debug.contains("AAECAw"),
        "{debug}"
    );
}
