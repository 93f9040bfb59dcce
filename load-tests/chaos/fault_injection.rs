//! Breaks something on purpose after everything has drained, so that one can see the verifier see it.

use anyhow::{Context as _, ensure};
use serde_json::json;
use simulators::metakocka::{MkId, PartnerEdit};
use testkit::Http;

use crate::harness::Harness;
use crate::workload::{Event, Record, TENANTS, Tenant, Workload};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FaultInjection {
    /// A record is deleted at the partner
    Lose,
    /// A record is made a second time
    Double,
    /// Older content is written over a record
    Age,
    /// A record of one tenant is made at another one's company
    Cross,
    /// An event is taken out of the unrouted queue
    Forget,
}

pub(crate) async fn fault_injection(
    harness: &Harness,
    workload: &Workload,
    kind: FaultInjection,
) -> anyhow::Result<()> {
    let tenant = &TENANTS[0];
    let company = tenant.accounts[0].company;
    let (record, mk_id) = victim(harness, workload, tenant)?;
    let newest = workload.newest(record);
    let simulator = &harness.simulator;
    match kind {
        FaultInjection::Lose => {
            simulator
                .with_company(company, |company, now| company.person_deletes(mk_id, now))??;
        }
        FaultInjection::Double => add(harness, company, newest)?,
        FaultInjection::Cross => add(harness, TENANTS[1].accounts[0].company, newest)?,
        FaultInjection::Age => {
            let older = record.events.iter().map(|at| &workload.events[*at]);
            let older = older
                .filter(|event| event.k < newest.k && !event.deletes())
                .max_by_key(|event| &event.k)
                .context("no older event")?;
            let body = json!({
                "secret_key": harness.key(company),
                "company_id": company,
                "partner": {"mk_id": mk_id, "customer": older.value["data"]["contact"]["name"]},
            });
            let answer = Http::new(simulator.base_url())
                .post("v1/update_partner", "application/json", body.to_string())
                .await?;
            ensure!(answer.status == 200, "{answer:?}");
        }
        FaultInjection::Forget => {
            let queue = harness.broker.queue("unrouted");
            let taken = harness.broker.take(&queue, usize::MAX).await?;
            ensure!(!taken.is_empty(), "nothing is unrouted");
        }
    }
    Ok(())
}

/// A record with at least two contents, that is there.
fn victim<'a>(
    harness: &Harness,
    workload: &'a Workload,
    tenant: &Tenant,
) -> anyhow::Result<(&'a Record, MkId)> {
    let partners = harness.simulator.partners(tenant.accounts[0].company)?;
    for record in workload
        .records
        .iter()
        .filter(|record| record.tenant.name == tenant.name)
    {
        let newest = workload.newest(record);
        let contents = record
            .events
            .iter()
            .filter(|at| !workload.events[**at].deletes());
        let name = newest.value["data"]["contact"]["name"].as_str();
        let partner = partners
            .iter()
            .find(|partner| Some(partner.customer.as_str()) == name);
        if let Some(partner) = partner.filter(|_| contents.count() > 1) {
            return Ok((record, partner.mk_id));
        }
    }
    anyhow::bail!("no record to break")
}

fn add(harness: &Harness, company: &str, event: &Event) -> anyhow::Result<()> {
    let edit = PartnerEdit {
        customer: event.value["data"]["contact"]["name"]
            .as_str()
            .map(str::to_owned),
        ..PartnerEdit::default()
    };
    harness
        .simulator
        .with_company(company, |company, now| company.person_adds(edit, now))??;
    Ok(())
}
