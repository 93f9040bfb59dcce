//! What became of the day: asked of the database and of the simulator.

use std::collections::BTreeMap;

use simulators::metakocka::{Counts, Partner};
use store::Scope;
use store::dead_letters::{DeadLetter, Filter};
use store::links_read::LinkSummary;

use super::stage::{REFUSED, Stage, Tenant};
use crate::exit::{Done, Exit, Failed};

/// More rows than the demo makes.
const ROWS: i64 = 1000;

/// One tenant's records, as they are at both ends.
pub(super) struct Seen {
    pub(super) name: &'static str,
    pub(super) records: usize,
    pub(super) in_step: usize,
    pub(super) deleted: usize,
    pub(super) partners: usize,
    /// Partners that share a name with another one.
    pub(super) doubles: usize,
    /// What is not as the CRM has it, in words.
    pub(super) wrong: Vec<String>,
}

pub(super) struct Outcome {
    pub(super) tenants: Vec<Seen>,
    pub(super) counts: Counts,
    pub(super) dead: Vec<DeadLetter>,
}

impl Outcome {
    pub(super) fn in_step(&self) -> bool {
        self.tenants
            .iter()
            .all(|seen| seen.wrong.is_empty() && seen.doubles == 0)
    }
}

/// How many events of the tenant wait, once all of them do. Without a connection there is no link yet, so each waits
/// by itself; one that was published twice waits once.
pub(super) async fn held(stage: &Stage, tenant: &Tenant) -> Done<Result<usize, String>> {
    let filter = store::held::Filter::default();
    let rows =
        store::held::list(&stage.pool, Scope::Tenant(&tenant.id), &filter, None, ROWS).await?;
    let expected = tenant.day.events.len() - tenant.day.twice;
    Ok(if rows.len() == expected {
        Ok(rows.len())
    } else {
        Err(format!("{} of {expected} events are held", rows.len()))
    })
}

/// Nothing waits, nothing is on its way, every record's newest version has been dealt with, `dead` events are open.
pub(super) async fn rest(stage: &Stage, dead: usize) -> Done<Result<(), String>> {
    let mut open = open_dead_letters(stage, &stage.stranger).await?.len();
    let outbox = store::outbox::depth(&stage.pool).await?.rows;
    if outbox > 0 {
        return Ok(Err(format!("{outbox} messages in the outbox")));
    }
    for tenant in &stage.tenants {
        let scope = Scope::Tenant(&tenant.id);
        let held = store::held::list(
            &stage.pool,
            scope,
            &store::held::Filter::default(),
            None,
            ROWS,
        )
        .await?;
        if let Some(one) = held.first() {
            return Ok(Err(format!(
                "{} of {} is held: {} {}",
                one.subject,
                tenant.name,
                one.reason,
                one.detail.as_deref().unwrap_or_default()
            )));
        }
        let links = links(stage, tenant).await?;
        for record in &tenant.day.records {
            let Some(link) = links.get(record.id.as_str()) else {
                return Ok(Err(format!(
                    "{} of {} has no link yet",
                    record.id, tenant.name
                )));
            };
            let arrived = link.applied_k.is_some() && link.desired_k <= link.applied_k;
            if !arrived {
                let error = link.last_error.as_deref().unwrap_or("on its way");
                return Ok(Err(format!("{} of {}: {error}", record.id, tenant.name)));
            }
        }
        open += open_dead_letters(stage, &tenant.id).await?.len();
    }
    Ok(if open == dead {
        Ok(())
    } else {
        Err(format!("{open} dead letters instead of {dead}"))
    })
}

pub(super) async fn outcome(stage: &Stage) -> Done<Outcome> {
    let mut tenants = Vec::new();
    let mut dead = open_dead_letters(stage, &stage.stranger).await?;
    for tenant in &stage.tenants {
        let partners = stage
            .simulator
            .partners(tenant.company)
            .map_err(|error| Failed::new(Exit::Failed, format!("the simulator: {error}")))?;
        tenants.push(compare(tenant, &links(stage, tenant).await?, &partners));
        dead.extend(open_dead_letters(stage, &tenant.id).await?);
    }
    Ok(Outcome {
        tenants,
        counts: stage.simulator.counts(),
        dead,
    })
}

async fn links(stage: &Stage, tenant: &Tenant) -> Done<BTreeMap<String, LinkSummary>> {
    let links = store::links_read::list(
        &stage.pool,
        Scope::Tenant(&tenant.id),
        &store::links_read::Filter::default(),
        None,
        ROWS,
    )
    .await?;
    Ok(links
        .into_iter()
        .map(|link| (link.source_id.clone(), link))
        .collect())
}

async fn open_dead_letters(stage: &Stage, tenant: &event::TenantId) -> Done<Vec<DeadLetter>> {
    let filter = Filter::default();
    let all =
        store::dead_letters::list(&stage.pool, Scope::Tenant(tenant), &filter, None, ROWS).await?;
    Ok(all
        .into_iter()
        .filter(|dead_letter| ["open", "replaying"].contains(&dead_letter.state.as_str()))
        .collect())
}

fn compare(tenant: &Tenant, links: &BTreeMap<String, LinkSummary>, partners: &[Partner]) -> Seen {
    let mut by_name: BTreeMap<&str, Vec<&Partner>> = BTreeMap::new();
    for partner in partners {
        by_name
            .entry(partner.customer.as_str())
            .or_default()
            .push(partner);
    }
    let mut seen = Seen {
        name: tenant.name,
        records: tenant.day.records.len(),
        in_step: 0,
        deleted: 0,
        partners: partners.len(),
        doubles: by_name.values().map(|same| same.len() - 1).sum(),
        wrong: Vec::new(),
    };
    for record in &tenant.day.records {
        let state = links.get(&record.id).map(|link| link.state.as_str());
        let there = by_name
            .get(record.name.as_str())
            .map(Vec::as_slice)
            .unwrap_or_default();
        let street_agrees = |partner: &&Partner| {
            record.street.as_ref().is_none_or(|street| {
                partner
                    .addresses
                    .iter()
                    .any(|address| address.street == *street)
            })
        };
        match (record.deleted, state, there) {
            (true, Some("deleted"), _) => seen.deleted += 1,
            (false, Some("linked"), [partner]) if street_agrees(partner) => seen.in_step += 1,
            _ => seen.wrong.push(format!(
                "{} ({}): link {}, {} partners of that name",
                record.id,
                record.name,
                state.unwrap_or("missing"),
                there.len()
            )),
        }
    }
    // The one that was refused at first is no record of the day.
    if by_name.contains_key(REFUSED) {
        seen.records += 1;
        seen.in_step += 1;
    }
    seen
}
