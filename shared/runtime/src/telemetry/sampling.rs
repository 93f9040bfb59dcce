//! Which traces are recorded. A trace that goes on from another one by a link (a retry after minutes, a released or
//! replayed event) is recorded if that one was: else a story would be told in parts.

use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingResult, ShouldSample};

use super::Error;

/// Share of new traces that are recorded unless the environment says otherwise.
pub(super) const DEFAULT_RATIO: f64 = 0.1;

pub(super) const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
pub(super) const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";

/// What `OTEL_TRACES_SAMPLER` and its argument ask for; without the first the argument is the ratio of our default.
///
/// # Errors
/// Another name than the six of the OpenTelemetry specification, or a ratio that is not between 0 and 1.
pub(super) fn chosen(name: Option<&str>, argument: Option<&str>) -> Result<Chosen, Error> {
    let ratio = |default: f64| match argument {
        None => Ok(default),
        Some(text) => text
            .parse()
            .ok()
            .filter(|ratio| (0.0..=1.0).contains(ratio))
            .ok_or_else(|| Error::Variable {
                variable: ARGUMENT,
                value: text.to_owned(),
                expected: "it is a share between 0 and 1, as in 0.1",
            }),
    };
    // The specification's own default for a ratio is all.
    Ok(match name {
        None => Chosen::follow(Sampler::TraceIdRatioBased(ratio(DEFAULT_RATIO)?)),
        Some("parentbased_traceidratio") => Chosen::follow(Sampler::TraceIdRatioBased(ratio(1.0)?)),
        Some("parentbased_always_on") => Chosen::follow(Sampler::AlwaysOn),
        Some("parentbased_always_off") => Chosen::follow(Sampler::AlwaysOff),
        Some("traceidratio") => Chosen::alone(Sampler::TraceIdRatioBased(ratio(1.0)?)),
        Some("always_on") => Chosen::alone(Sampler::AlwaysOn),
        Some("always_off") => Chosen::alone(Sampler::AlwaysOff),
        Some(other) => {
            return Err(Error::Variable {
                variable: SAMPLER,
                value: other.to_owned(),
                expected: "it is one of parentbased_traceidratio, parentbased_always_on, parentbased_always_off, \
                           traceidratio, always_on, always_off",
            });
        }
    })
}

/// Decides for spans without a parent by `root`; those with one go with it if `follows`.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    root: Sampler,
    follows: bool,
}

impl Chosen {
    fn follow(root: Sampler) -> Self {
        Self {
            root,
            follows: true,
        }
    }

    fn alone(root: Sampler) -> Self {
        Self {
            root,
            follows: false,
        }
    }

    /// What the parent says, or what this one links to. A request's link is a stranger's and decides nothing.
    fn precedent(&self, parent: Option<&Context>, kind: &SpanKind, links: &[Link]) -> Option<bool> {
        if !self.follows {
            return None;
        }
        let parent = parent.map(|parent| parent.span().span_context().clone());
        if let Some(parent) = parent.filter(|parent| parent.is_valid()) {
            return Some(parent.is_sampled());
        }
        if *kind == SpanKind::Server || links.is_empty() {
            return None;
        }
        Some(links.iter().any(|link| link.span_context.is_sampled()))
    }
}

impl ShouldSample for Chosen {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let sampler = match self.precedent(parent, kind, links) {
            Some(true) => &Sampler::AlwaysOn,
            Some(false) => &Sampler::AlwaysOff,
            None => &self.root,
        };
        sampler.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};
    use opentelemetry_sdk::trace::SamplingDecision;

    use super::*;

    fn other(sampled: bool) -> SpanContext {
        let flags = if sampled {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::default()
        };
        SpanContext::new(
            TraceId::from(7),
            SpanId::from(7),
            flags,
            true,
            TraceState::default(),
        )
    }

    fn is_recorded(
        chosen: &Chosen,
        parent: Option<bool>,
        kind: &SpanKind,
        link: Option<bool>,
    ) -> bool {
        let parent = parent.map(|sampled| Context::new().with_remote_span_context(other(sampled)));
        let links: Vec<Link> = link
            .map(|sampled| Link::new(other(sampled), Vec::new(), 0))
            .into_iter()
            .collect();
        let result = chosen.should_sample(parent.as_ref(), TraceId::from(1), "", kind, &[], &links);
        result.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn a_parent_decides_then_a_link_then_the_ratio() {
        let none = chosen(Some("parentbased_always_off"), None).unwrap();
        let all = chosen(Some("parentbased_always_on"), None).unwrap();
        let consumer = &SpanKind::Consumer;
        for (chosen, default) in [(&none, false), (&all, true)] {
            assert_eq!(is_recorded(chosen, None, consumer, None), default);
            for precedent in [false, true] {
                let is = |parent, link| is_recorded(chosen, parent, consumer, link);
                assert_eq!(is(Some(precedent), Some(!precedent)), precedent);
                assert_eq!(is(None, Some(precedent)), precedent);
                // A sender may not choose what is recorded here.
                let request = is_recorded(chosen, None, &SpanKind::Server, Some(precedent));
                assert_eq!(request, default);
            }
        }
    }

    #[test]
    fn without_parentbased_nothing_is_followed() {
        let all = chosen(Some("always_on"), None).unwrap();
        assert!(is_recorded(
            &all,
            Some(false),
            &SpanKind::Consumer,
            Some(false)
        ));
    }

    #[test]
    fn the_environment_is_understood_or_refused() {
        let ratio = |name, argument| format!("{:?}", chosen(name, argument).unwrap().root);
        assert_eq!(ratio(None, None), "TraceIdRatioBased(0.1)");
        assert_eq!(ratio(None, Some("0.5")), "TraceIdRatioBased(0.5)");
        let named = ratio(Some("parentbased_traceidratio"), Some("0.25"));
        assert_eq!(named, "TraceIdRatioBased(0.25)");
        for (name, argument) in [
            (Some("jaeger_remote"), None),
            (None, Some("2")),
            (None, Some("often")),
            (Some("traceidratio"), Some("NaN")),
        ] {
            let refused = chosen(name, argument).unwrap_err().to_string();
            assert!(refused.starts_with("OTEL_TRACES_SAMPLER"), "{refused}");
        }
    }
}
