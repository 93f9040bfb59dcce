//! What searches, and reads by id where they lag too, see: the partners as they were a while ago.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::partner::{MkId, Partner};
use super::readings::{ChangedInIndex, DeletedInIndex, Readings};

/// Most changes that may wait to become visible; the oldest then becomes visible early.
const MAX_PENDING: usize = 50_000;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "IndexState", into = "IndexState")]
pub(super) struct Index {
    visible: BTreeMap<MkId, Arc<Partner>>,
    /// Oldest first.
    pending: VecDeque<Change>,
}

#[derive(Clone, Debug)]
struct Change {
    at: DateTime<Utc>,
    mk_id: MkId,
    /// `None`: deleted.
    partner: Option<Arc<Partner>>,
}

/// The index as it is saved.
#[derive(Serialize, Deserialize)]
struct IndexState {
    visible: Vec<Partner>,
    pending: Vec<(DateTime<Utc>, MkId, Option<Partner>)>,
}

impl From<Index> for IndexState {
    fn from(index: Index) -> Self {
        let owned = |partner: Arc<Partner>| Partner::clone(&partner);
        IndexState {
            visible: index.visible.into_values().map(owned).collect(),
            pending: index
                .pending
                .into_iter()
                .map(|change| (change.at, change.mk_id, change.partner.map(owned)))
                .collect(),
        }
    }
}

impl From<IndexState> for Index {
    fn from(state: IndexState) -> Self {
        let change = |(at, mk_id, partner): (_, _, Option<Partner>)| Change {
            at,
            mk_id,
            partner: partner.map(Arc::new),
        };
        Index {
            visible: state
                .visible
                .into_iter()
                .map(|partner| (partner.mk_id, Arc::new(partner)))
                .collect(),
            pending: state.pending.into_iter().map(change).collect(),
        }
    }
}

impl Index {
    pub(super) fn changed(&mut self, at: DateTime<Utc>, partner: Arc<Partner>) {
        self.push(Change {
            at,
            mk_id: partner.mk_id,
            partner: Some(partner),
        });
    }

    pub(super) fn deleted(&mut self, at: DateTime<Utc>, mk_id: MkId, reading: DeletedInIndex) {
        match reading {
            DeletedInIndex::Gone => {
                self.pending.retain(|change| change.mk_id != mk_id);
                self.visible.remove(&mk_id);
            }
            DeletedInIndex::AfterLag => self.push(Change {
                at,
                mk_id,
                partner: None,
            }),
            DeletedInIndex::Stays => {}
        }
    }

    fn push(&mut self, change: Change) {
        self.pending.push_back(change);
        if self.pending.len() > MAX_PENDING {
            self.show_oldest();
        }
    }

    fn show_oldest(&mut self) {
        let Some(change) = self.pending.pop_front() else {
            return;
        };
        match change.partner {
            Some(partner) => self.visible.insert(change.mk_id, partner),
            None => self.visible.remove(&change.mk_id),
        };
    }

    /// What a search at `now` looks through, by `mk_id`.
    pub(super) fn seen_at(
        &mut self,
        now: DateTime<Utc>,
        readings: &Readings,
    ) -> impl Iterator<Item = &Arc<Partner>> {
        let newest = now - TimeDelta::seconds(readings.index_lag_seconds.into());
        while self
            .pending
            .front()
            .is_some_and(|change| change.at <= newest)
        {
            self.show_oldest();
        }
        let changing: BTreeSet<MkId> = match readings.changed_in_index {
            ChangedInIndex::Old => BTreeSet::new(),
            ChangedInIndex::Hidden => self.pending.iter().map(|change| change.mk_id).collect(),
        };
        self.visible
            .values()
            .filter(move |partner| !changing.contains(&partner.mk_id))
    }
}
