//! `kurir connection test`, as far as it is Metakocka's.

use metakocka_sync::{Settings, TestError, Tested, connection_test};
use outbound::address::Private;
use outbound::{Client, Url};
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

async fn tested(connection: &Value, credentials: &Value) -> Result<Tested, TestError> {
    let settings = Settings::new(Url::parse(metakocka::PRODUCTION_ROOT).unwrap());
    let credentials = SecretString::from(credentials.to_string());
    connection_test(&client(Private::Allow), &settings, connection, &credentials).await
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
            let Tested { warnings } = tested(&connection, &credentials).await.unwrap();
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
        match tested(&connection, &wrong).await.unwrap_err() {
            TestError::Refused(text) => assert!(!text.contains("guessed-key"), "{text}"),
            other => panic!("{other}"),
        }
        let fault = Fault::Error { status: 503 };
        simulator.fault(ScriptedFault::new(fault)).unwrap();
        let error = tested(&connection, &good()).await.unwrap_err();
        assert!(matches!(error, TestError::Unavailable(_)), "{error}");
    }
    for (connection, credentials) in [
        (json!({"url": "ftp://kos.example"}), good()),
        (json!({"url": 7}), good()),
        (json!({}), json!({"secret_key": KEY})),
        (json!({}), json!({"key": KEY, "company_id": COMPANY})),
    ] {
        let error = tested(&connection, &credentials).await.unwrap_err();
        let TestError::Unusable(text) = error else {
            panic!("{error}")
        };
        assert!(!text.contains(KEY), "{text}");
    }
}

#[tokio::test]
async fn a_private_address_says_which_setting_allows_it() {
    let simulator = simulator(Readings::kind()).await;
    let settings = Settings::new(Url::parse(&simulator.base_url()).unwrap());
    let credentials = SecretString::from(good().to_string());
    let error = connection_test(
        &client(Private::Refuse),
        &settings,
        &json!({}),
        &credentials,
    )
    .await
    .unwrap_err();
    assert!(
        error.to_string().contains("allow_private_addresses"),
        "{error}"
    );
    assert_eq!(simulator.counts().calls(Call::GetPartner), 0);
}
