//! The HTTP client of the exporter where the environment names an authority of one's own. The libraries know these
//! variables for gRPC only.

use std::path::Path;
use std::time::Duration;

use reqwest::Certificate;
use reqwest::blocking::Client;

use super::Error;
use super::variables::Variables;

const CERTIFICATES: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
];
/// Certificates of ours, for a collector that asks for them.
const OF_CLIENTS: [&str; 4] = [
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
];
const TIMEOUTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
];
/// As the specification has it.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// `None`: the exporter makes its own, which believes the system's authorities.
///
/// # Errors
/// A file that cannot be believed, or a variable that cannot be followed.
pub(super) fn of(variables: Variables<'_>) -> Result<Option<Client>, Error> {
    for variable in OF_CLIENTS {
        if let Some(value) = variables(variable) {
            return Err(Error::Variable {
                variable,
                value,
                expected: "no certificate of ours can be shown to a collector",
            });
        }
    }
    let named = |variable: &&'static str| Some((*variable, variables(variable)?));
    let Some((variable, value)) = CERTIFICATES.iter().find_map(named) else {
        return Ok(None);
    };
    let refused = Error::Variable {
        variable,
        value: value.clone(),
        expected: "it must be a file of certificates in PEM that can be read",
    };
    let Ok(believed) = trust::of_file(Path::new(&value)) else {
        return Err(refused);
    };
    let believed = believed.iter().map(|one| Certificate::from_der(one));
    let Ok(believed) = believed.collect::<Result<Vec<_>, _>>() else {
        return Err(refused);
    };
    let timeout = TIMEOUTS
        .iter()
        .find_map(|name| variables(name)?.parse().ok());
    let timeout = timeout.map_or(DEFAULT_TIMEOUT, Duration::from_millis);
    // It brings a runtime of its own, which must not be made or dropped within ours.
    let built = std::thread::spawn(move || {
        Client::builder()
            .timeout(timeout)
            .tls_certs_merge(believed)
            .build()
    });
    match built.join() {
        Ok(Ok(client)) => Ok(Some(client)),
        Ok(Err(_)) | Err(_) => Err(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_cannot_be_read_ends_the_start() {
        for variable in CERTIFICATES.into_iter().chain(OF_CLIENTS) {
            let variables: Variables<'_> =
                &|name| (name == variable).then(|| "/none.pem".to_owned());
            let refused = of(variables).expect_err("refused").to_string();
            assert!(
                refused.starts_with(&format!("{variable} is `/none.pem`")),
                "{refused}"
            );
        }
        assert!(of(&|_name| None).expect("nothing is named").is_none());
    }
}
