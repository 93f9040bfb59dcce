//! `kurir connection test`, as far as it is Metakocka's.

use metakocka_sync::METAKOCKA;
use outbound::Client;
use outbound::address::Private;
use registry::{TestError, Tested, Trial};
use secrecy::SecretString;
use serde_json::{Value, json};
use simulators::metakocka::{Call, Fault, Readings, ScriptedFault, Simulator};

use crate::stage::{COMPANY, KEY, both};

fn client(private: Private) -> Client {
    Client::new(outbound::Settings {
        private,
        ..outbound::Settings::default()
    })
    .unwrap()
}

async fn simulator(readings: Readings) -> Simulator {
    Simulator::start(simulators::metakocka::Options {
        readings,
        strict: true,
        ..simulators::metakocka::Options::default()
    })
    .await
    .unwrap()
}

/// With the table of settings that is compiled in.
async fn tested(
    private: Private,
    connection: &Value,
    credentials: &Value,
) -> Result<Tested, TestError> {
    let defaults: toml::Table = toml::from_str(METAKOCKA.section.defaults).unwrap();
    let settings = serde_json::to_value(&defaults[METAKOCKA.name]).unwrap();
    let trial = Trial {
        client: &client(private),
        settings: &settings,
        connection,
        credentials: &SecretString::from(credentials.to_string()),
    };
    (METAKOCKA.test)(trial).await
}

fn good() -> Value {
    json!({"secret_key": KEY, "company_id": COMPANY})
}

#[tokio::test]
async fn working_credentials_cost_one_reading_call() {
    for readings in both() {
        let simulator = simulator(readings).await;
        let connection = json!({"url": simulator.base_url()});
        for company in [json!(COMPANY), json!(4711)] {
            let credentials = json!({"secret_key": KEY, "company_id": company});
            let Tested { warnings } = tested(Private::Allow, &connection, &credentials)
                .await
                .unwrap();
            assert_eq!(warnings.len(), 1);
            assert!(warnings[0].contains("not encrypted"), "{warnings:?}");
        }
        let counts = simulator.counts();
        assert_eq!(counts.calls(Call::GetPartner), 2);
        assert_eq!(counts.calls(Call::AddPartner), 0);
    }
}

#[tokio::test]
async fn each_way_it_can_fail_has_its_own_words() {
    for readings in both() {
        let simulator = simulator(readings).await;
        let connection = json!({"url": simulator.base_url()});
        let wrong = json!({"secret_key": "guessed-key", "company_id": COMPANY});
        match tested(Private::Allow, &connection, &wrong)
            .await
            .unwrap_err()
        {
            TestError::Refused(text) => assert!(!text.contains("guessed-key"), "{text}"),
            other => panic!("{other}"),
        }
        let fault = Fault::Error { status: 503 };
        simulator.fault(ScriptedFault::new(fault)).unwrap();
        let error = tested(Private::Allow, &connection, &good())
            .await
            .unwrap_err();
        assert!(matches!(error, TestError::Unavailable(_)), "{error}");
    }
    for (connection, credentials) in [
        (json!({"url": "ftp://kos.example"}), good()),
        (json!({"url": 7}), good()),
        (json!({}), json!({"secret_key": KEY})),
        (json!({}), json!({"key": KEY, "company_id": COMPANY})),
    ] {
        let error = tested(Private::Allow, &connection, &credentials)
            .await
            .unwrap_err();
        let TestError::Unusable(text) = error else {
            panic!("{error}")
        };
        assert!(!text.contains(KEY), "{text}");
    }
}

#[tokio::test]
async fn a_private_address_is_told_apart() {
    let simulator = simulator(Readings::kind()).await;
    let connection = json!({"url": simulator.base_url()});
    let error = tested(Private::Refuse, &connection, &good())
        .await
        .unwrap_err();
    assert!(matches!(error, TestError::PrivateAddress(_)), "{error}");
    assert_eq!(simulator.counts().calls(Call::GetPartner), 0);
}
