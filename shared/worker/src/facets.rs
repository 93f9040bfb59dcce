//! What one event means at one worker: which links it moves.

use event::EventType;

/// By event type, the facets that a worker makes of such an event. Each is the kind of a link of its own, so each has its own
/// delivery, retries, dead letter and replay, and none waits for another. A type that is not named has one: its event's entity.
///
/// Two entities of one source never share a facet: a link is found by its kind and the record's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facets(pub &'static [(EventType, &'static [&'static str])]);

impl Facets {
    /// Every event is one link, of its entity's kind.
    pub const ENTITY: Self = Self(&[]);

    /// Those of this type; empty: its entity alone.
    pub fn of(self, event_type: EventType) -> &'static [&'static str] {
        let named = self.0.iter().find(|(named, _)| *named == event_type);
        named.map_or(&[], |(_, facets)| facets)
    }

    /// The ones that this copy is for. `None` in the list is the entity.
    ///
    /// # Errors
    /// The copy names a facet that the worker does not make of such an event.
    pub fn wanted(
        self,
        event_type: EventType,
        entity: &str,
        named: Option<&str>,
    ) -> Result<Vec<Option<&'static str>>, UnknownFacet> {
        let facets = self.of(event_type);
        let all = || match facets {
            [] => vec![None],
            facets => facets.iter().copied().map(Some).collect(),
        };
        match named {
            None => Ok(all()),
            // Of a build that made several of it.
            Some(named) if facets.is_empty() && named == entity => Ok(vec![None]),
            Some(named) => match facets.iter().find(|facet| **facet == named) {
                Some(facet) => Ok(vec![Some(*facet)]),
                None => Err(UnknownFacet),
            },
        }
    }
}

/// See [`Facets::wanted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownFacet;

#[cfg(test)]
mod tests {
    use super::*;

    const SEVERAL: Facets = Facets(&[(EventType::CrmContactCreated, &["person", "lead"])]);

    #[test]
    fn a_type_that_is_not_named_has_its_entity() {
        let wanted =
            |facets: Facets, named| facets.wanted(EventType::CrmContactDeleted, "contact", named);
        assert_eq!(wanted(SEVERAL, None), Ok(vec![None]));
        assert_eq!(wanted(Facets::ENTITY, Some("contact")), Ok(vec![None]));
        assert_eq!(wanted(Facets::ENTITY, Some("lead")), Err(UnknownFacet));
    }

    #[test]
    fn a_copy_is_for_the_facet_that_it_names() {
        let wanted = |named| SEVERAL.wanted(EventType::CrmContactCreated, "contact", named);
        assert_eq!(wanted(None), Ok(vec![Some("person"), Some("lead")]));
        assert_eq!(wanted(Some("lead")), Ok(vec![Some("lead")]));
        assert_eq!(wanted(Some("contact")), Err(UnknownFacet));
    }
}
