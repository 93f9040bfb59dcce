//! Tries a connection out with one cheap call that stores nothing, and says what an operator should know.

use metakocka::{DEVELOPMENT_ROOT, Error};
use outbound::NotSent;
use registry::{TestError, Tested, Trial};

use crate::settings::Settings;

pub(crate) async fn connection_test(trial: Trial<'_>) -> Result<Tested, TestError> {
    let settings = Settings::read(trial.settings).map_err(TestError::Unusable)?;
    let metakocka = settings
        .company(trial.client, trial.connection, trial.credentials)
        .map_err(TestError::Unusable)?;
    let root = registry::root(trial.connection, &settings.root).map_err(TestError::Unusable)?;
    let mut warnings = Vec::new();
    if root.scheme() == "http" {
        warnings.push(format!(
            "{root} is not encrypted: the secret key can be read on the way"
        ));
    }
    if root.as_str().trim_end_matches('/') == DEVELOPMENT_ROOT.trim_end_matches('/') {
        warnings.push("this is Metakocka's development system, not the real company".to_owned());
    }
    match metakocka.check_credentials().await {
        Ok(()) => Ok(Tested { warnings }),
        Err(Error::Credentials { text }) => Err(TestError::Refused(text)),
        Err(Error::NotSent {
            kind: NotSent::Address,
            text,
        }) => Err(TestError::PrivateAddress(text)),
        Err(other) => Err(TestError::Unavailable(other.to_string())),
    }
}
