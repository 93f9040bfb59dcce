//! What the OpenTelemetry environment asks for. The libraries read most of it themselves (endpoint, headers, time-out,
//! queue, limits of spans); here is what they leave out, and what must not depend on how they were compiled.

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};
use uuid::Uuid;

use super::export::Counted;
use super::sampling::{self, Chosen};
use super::variables::Variables;
use super::{Error, Service, client};

const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
const PROTOCOLS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

/// What all processes of a fleet share.
const NAMESPACE: &str = "kurir";

/// `None`: nothing is exported.
pub(super) fn provider(service: Service<'_>) -> Result<Option<SdkTracerProvider>, Error> {
    let variables: Variables<'_> = &|name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let Some(sampler) = wanted(variables)? else {
        return Ok(None);
    };
    // The exporter's client needs a provider of cryptography for https. A second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        // Else features of other crates in the same build choose it.
        .with_protocol(Protocol::HttpBinary);
    if let Some(client) = client::of(variables)? {
        exporter = exporter.with_http_client(client);
    }
    let exporter = exporter
        .build()
        .map_err(|_may_hold_a_password| Error::Exporter)?;
    let processor = BatchSpanProcessor::builder(Counted::new(exporter)).build();
    Ok(Some(
        SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(sampler)
            .with_resource(resource(service, variables))
            .build(),
    ))
}

/// With what is recorded, if anything is exported at all.
fn wanted(variables: Variables<'_>) -> Result<Option<Chosen>, Error> {
    if variables(DISABLED).is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let export = match variables(EXPORTER).as_deref() {
        Some("otlp") => true,
        Some("none") => false,
        Some(other) => {
            return Err(Error::Variable {
                variable: EXPORTER,
                value: other.to_owned(),
                expected: "it is otlp or none",
            });
        }
        None => ENDPOINTS.iter().any(|name| variables(name).is_some()),
    };
    if !export {
        return Ok(None);
    }
    for variable in PROTOCOLS {
        if let Some(value) = variables(variable).filter(|value| value != "http/protobuf") {
            return Err(Error::Variable {
                variable,
                value,
                expected: "only http/protobuf is spoken (port 4318 of a collector)",
            });
        }
    }
    let (name, argument) = (variables(sampling::SAMPLER), variables(sampling::ARGUMENT));
    sampling::chosen(name.as_deref(), argument.as_deref()).map(Some)
}

/// Ours first, so that `OTEL_RESOURCE_ATTRIBUTES` (where Kubernetes names pod, node and namespace) wins, and
/// `OTEL_SERVICE_NAME` over both.
fn resource(service: Service<'_>, variables: Variables<'_>) -> Resource {
    let ours = [
        KeyValue::new("service.name", service.name.to_owned()),
        KeyValue::new("service.namespace", NAMESPACE),
        KeyValue::new("service.version", service.version.to_owned()),
        KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
    ];
    let resource = Resource::builder()
        .with_attributes(ours)
        .with_detector(Box::new(EnvResourceDetector::new()));
    match variables(SERVICE_NAME) {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_wanted(given: &[(&'static str, &'static str)]) -> Result<bool, String> {
        let variables: Variables<'_> = &|name| {
            let found = given.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let wanted = wanted(variables).map_err(|error| error.to_string())?;
        Ok(wanted.is_some())
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

    #[test]
    fn only_a_named_collector_or_an_asked_for_exporter_exports() {
        assert_eq!(is_wanted(&[]), Ok(false));
        assert_eq!(is_wanted(&[ENDPOINT]), Ok(true));
        let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/v1/traces");
        assert_eq!(is_wanted(&[of_traces]), Ok(true));
        assert_eq!(is_wanted(&[("OTEL_TRACES_EXPORTER", "otlp")]), Ok(true));
        assert_eq!(
            is_wanted(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]),
            Ok(false)
        );
        assert_eq!(
            is_wanted(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]),
            Ok(false)
        );
        assert_eq!(
            is_wanted(&[ENDPOINT, ("OTEL_SDK_DISABLED", "false")]),
            Ok(true)
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for given in [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ] {
            let refused = is_wanted(&[ENDPOINT, given]).unwrap_err();
            let named = refused.contains(given.0) && refused.contains(given.1);
            assert!(named, "{refused}");
        }
        // Nobody asked for an export.
        assert_eq!(
            is_wanted(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]),
            Ok(false)
        );
    }
}
