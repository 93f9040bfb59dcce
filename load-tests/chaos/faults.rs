//! Does what the plan says. Each fault ends what it began: when a lane is through, its servers run and answer.

use std::time::Duration;

use anyhow::{Context as _, bail};
use lapin::options::QueueDeleteOptions;
use lapin::types::AMQPValue;
use simulators::metakocka::{Call, Fault as PartnerFault, LateAnswer, ScriptedFault};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, sleep_until};

use crate::harness::{Harness, LATEST_MS, QUEUES, caught};
use crate::output::print;
use crate::plan::{InjectedFault, Repair, Step};
use crate::processes::Processes;
use crate::publish::Accepted;
use crate::survey::Survey;
use crate::workload::{Delivery, Way, Workload};

/// A queue that was deleted is declared and consumed again within this: rabbitmq.md asks for 35 s, and the broker may be
/// busy with the end of another fault.
const CONSUMED_AGAIN: Duration = Duration::from_secs(60);
/// A broker that has just come up answers its management API a little later.
const MANAGEMENT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(250);
/// Between two injected faults of one lane at least.
const QUIET: Duration = Duration::from_millis(1_500);
/// Of starting a server, or of telling it something.
const TRIES: u32 = 3;
/// Claims of a poison event that never come back before it is held.
const LIVES: u32 = 3;
/// Three workers die of it and each waits for the lease of the one before.
const HELD: Duration = Duration::from_secs(120);
/// Events that lie beside the poison, in one prefetch.
const NEIGHBOURS: u32 = 127;
/// Copies that wait in a retry tier: more than the broker sends again at a time.
const COPIES: u32 = 100;
const RETRY_TIER: &str = "metakocka-sync.retry.5s";
/// Until so many events are published.
const GATHERED: Duration = Duration::from_secs(40);
/// Longer than the retry tier.
const MISSING: Duration = Duration::from_secs(8);
/// The broker looks once a minute for deliveries that are older than its limit.
const SHORT_TIMEOUT_MS: u64 = 20_000;
const USUAL_TIMEOUT_MS: u64 = 1_800_000;
const TIMED_OUT_WITHIN: Duration = Duration::from_secs(150);
/// In what a worker says of a channel that the broker closed for it.
const TIMED_OUT: &str = "PRECONDITION_FAILED";
/// As `deploy/local/rabbitmq.sh` configures it.
const MEMORY_LIMIT: [&str; 3] = ["set_vm_memory_high_watermark", "absolute", "1GB"];
const MEMORY_ALARM: [&str; 3] = ["set_vm_memory_high_watermark", "absolute", "20MB"];
const DISK_LIMIT: [&str; 2] = ["set_disk_free_limit", "50MB"];
const DISK_ALARM: [&str; 2] = ["set_disk_free_limit", "1000000GB"];

/// Who injects faults, and what that needs for it.
pub(crate) struct Hand<'a> {
    pub(crate) harness: &'a Harness,
    pub(crate) processes: &'a Processes,
    pub(crate) workload: &'a Workload,
    pub(crate) accepted: &'a Accepted,
    /// For what a publisher must repeat.
    pub(crate) publishing: Sender<Delivery>,
    pub(crate) begin: Instant,
    /// No fault begins later than this after `begin`.
    pub(crate) end: Duration,
}

/// A fault that was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) step: String,
    /// Since the begin of publishing.
    pub(crate) at: Duration,
    pub(crate) took: Duration,
}

impl Hand<'_> {
    pub(crate) async fn lane(self, steps: Vec<Step>) -> anyhow::Result<Vec<Made>> {
        let mut made = Vec::new();
        for step in steps {
            sleep_until(self.begin + step.at).await;
            if self.begin.elapsed() > self.end {
                // A machine that is much too busy: the rest of the plan would only keep the servers away for longer.
                break;
            }
            let at = self.begin.elapsed();
            self.make(step.injected_fault)
                .await
                .with_context(|| format!("{:?}", step.injected_fault))?;
            let took = self.begin.elapsed() - at;
            // Late, the next one would begin before anything has come back.
            sleep(QUIET).await;
            made.push(Made {
                step: format!("{:?}", step.injected_fault),
                at,
                took,
            });
        }
        Ok(made)
    }

    async fn make(&self, injected_fault: InjectedFault) -> anyhow::Result<()> {
        let Self {
            harness, processes, ..
        } = self;
        match injected_fault {
            InjectedFault::Kill { slot, away } => processes.kill(harness, slot, away).await?,
            InjectedFault::Freeze { slot, still } => processes.freeze(slot, still).await,
            InjectedFault::Restart { slot } => processes.restart(harness, slot).await?,
            InjectedFault::BrokerKill { away } => {
                harness.rabbit.kill().await;
                sleep(away).await;
                again(async || harness.rabbit.start_again().await).await?;
            }
            InjectedFault::BrokerRestart => {
                harness.rabbit.stop().await;
                again(async || harness.rabbit.start_again().await).await?;
            }
            InjectedFault::BrokerPause { still } => {
                harness.rabbit.pause().await;
                sleep(still).await;
                harness.rabbit.resume().await;
            }
            InjectedFault::CutBroker => self.cut_broker().await?,
            InjectedFault::MemoryAlarm { lasting } => {
                again(async || harness.rabbit.ctl(&MEMORY_ALARM).await).await?;
                sleep(lasting).await;
                again(async || harness.rabbit.ctl(&MEMORY_LIMIT).await).await?;
            }
            InjectedFault::DiskAlarm { lasting } => {
                again(async || harness.rabbit.ctl(&DISK_ALARM).await).await?;
                sleep(lasting).await;
                again(async || harness.rabbit.ctl(&DISK_LIMIT).await).await?;
            }
            InjectedFault::QueueLoss => self.lose_queue().await?,
            InjectedFault::DatabaseKill { away } => {
                harness.postgres.kill().await;
                sleep(away).await;
                again(async || harness.postgres.start_again().await).await?;
            }
            InjectedFault::DatabaseRestart => {
                harness.postgres.stop().await;
                again(async || harness.postgres.start_again().await).await?;
            }
            InjectedFault::DatabasePause { still } => {
                harness.postgres.pause().await;
                sleep(still).await;
                harness.postgres.resume().await;
            }
            InjectedFault::CutDatabase => {
                again(async || harness.database.disconnect_everybody().await).await?;
            }
            InjectedFault::WrongKey {
                company,
                lasting,
                repair,
            } => self.wrong_key(company, lasting, repair).await?,
            InjectedFault::OneRefusedLogin { company } => {
                self.script(company, PartnerFault::Auth { code: 3 }, 1)?;
                // Perhaps no call meets it before the end: whoever ends the fault looks after that.
            }
            InjectedFault::Outage { lasting } => {
                harness.simulator.outage(lasting)?;
                sleep(lasting).await;
            }
            InjectedFault::Refusals { company, writes } => {
                let fault = PartnerFault::Refuse {
                    code: 6,
                    text: "Profit center A12 doesnt exist".to_owned(),
                };
                self.script_writes(company, fault, writes)?;
            }
            InjectedFault::LyingRefusals { company, writes } => {
                let fault = PartnerFault::LyingRefusal {
                    code: 6,
                    text: "Warehouse B7 doesnt exist".to_owned(),
                };
                // Not creates: one that is refused and made all the same is R5 of docs/tests.md, for a person.
                self.harness.simulator.fault(
                    ScriptedFault::new(fault)
                        .of_company(company)
                        .on(Call::UpdatePartner)
                        .times(writes),
                )?;
            }
            InjectedFault::Quota { company, calls } => {
                self.script(company, PartnerFault::Quota, calls)?
            }
            InjectedFault::Poison => self.poison().await?,
            InjectedFault::TargetMissing => self.target_missing().await?,
            InjectedFault::ConsumerTimeout => self.consumer_timeout().await?,
            InjectedFault::LateCommits { company } => {
                for answer in [
                    LateAnswer::Error,
                    LateAnswer::Code1,
                    LateAnswer::Drop,
                    LateAnswer::Reset,
                    LateAnswer::Nothing,
                ] {
                    let fault = PartnerFault::CommitLate {
                        after_ms: LATEST_MS,
                        answer,
                    };
                    self.script_writes(company, fault, 1)?;
                }
            }
        }
        Ok(())
    }

    fn script(&self, company: &str, fault: PartnerFault, times: u32) -> anyhow::Result<()> {
        let fault = ScriptedFault::new(fault).of_company(company).times(times);
        self.harness.simulator.fault(fault)?;
        Ok(())
    }

    fn script_writes(&self, company: &str, fault: PartnerFault, times: u32) -> anyhow::Result<()> {
        for call in [Call::AddPartner, Call::UpdatePartner] {
            let fault = ScriptedFault::new(fault.clone())
                .of_company(company)
                .on(call)
                .times(times);
            self.harness.simulator.fault(fault)?;
        }
        Ok(())
    }

    async fn wrong_key(
        &self,
        company: &'static str,
        lasting: Duration,
        repair: Repair,
    ) -> anyhow::Result<()> {
        let before = self.harness.key(company);
        let other = format!("{before}+");
        self.harness
            .change_key(company, &other, repair == Repair::Update);
        sleep(lasting).await;
        match repair {
            Repair::Test => self.harness.change_key(company, &before, true),
            Repair::Update => self.harness.update_connection(company).await?,
        }
        self.harness.test_connection(company).await
    }

    async fn cut_broker(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let (broker, vhost) = (&self.harness.broker, self.harness.broker.vhost());
        loop {
            match broker.management().close_connections(vhost).await {
                Ok(_) => return Ok(()),
                // A connection that has gone between list and close is a failure too.
                Err(error) if begin.elapsed() > MANAGEMENT => return Err(error),
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    /// What lies in the queue is gone with it. That is the operator's doing, not Kurir's, so the publisher is asked to
    /// repeat what is not applied yet, as after any such mishap.
    async fn lose_queue(&self) -> anyhow::Result<()> {
        let queue = self.harness.broker.queue(QUEUES[0]);
        let channel = self.harness.broker.channel().await?;
        channel
            .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
            .await?;
        let begin = Instant::now();
        loop {
            match self.harness.broker.consumers(&queue).await {
                Ok(Some(consumers)) if consumers > 0 => break,
                other if begin.elapsed() > CONSUMED_AGAIN => {
                    bail!("{queue} was not consumed again within {CONSUMED_AGAIN:?}: {other:?}")
                }
                _ => sleep(LOOK).await,
            }
        }
        let survey = Survey::patient(self.harness).await?;
        for (at, event) in self.workload.events.iter().enumerate() {
            if self.accepted.times(at) > 0 && !survey.is_done(self.workload, event) {
                self.publish_again(at).await?;
            }
        }
        Ok(())
    }

    /// The newest event of a record becomes poison while much else lies beside it; it must be held alone, and only then
    /// is the cause repaired.
    async fn poison(&self) -> anyhow::Result<()> {
        let Self {
            harness, processes, ..
        } = self;
        // Of a tenant with one account: with two it would be two claims.
        let record = self.workload.records.iter().find(|record| {
            record.tenant.accounts.len() == 1 && !self.workload.newest(record).deletes()
        });
        let record = record.context("a record of a tenant with one account")?;
        let poison = self.workload.newest(record).id().to_owned();
        processes.kill_workers(harness).await?;
        let neighbours = self.gather(NEIGHBOURS).await?;
        let at = self
            .workload
            .events
            .iter()
            .position(|event| event.id() == poison);
        self.publish_again(at.context("the newest event is in the workload")?)
            .await?;
        processes.set_poison(harness, Some(poison.clone())).await?;
        print(&format!(
            "  {poison} ends its workers, {neighbours} lie in its queue"
        ));
        let begin = Instant::now();
        loop {
            let survey = Survey::patient(harness).await?;
            let held = survey.held();
            match held.get("poison") {
                Some(1) => break,
                Some(more) => bail!("{more} events are held as poison, one is: {held:?}"),
                None if begin.elapsed() > HELD => {
                    bail!("{poison} was not held within {HELD:?}: {held:?}")
                }
                None => sleep(LOOK).await,
            }
        }
        let deaths = processes.notes().poisoned;
        if deaths != LIVES {
            bail!("{poison} ended {deaths} workers, {LIVES} are allowed");
        }
        processes.set_poison(harness, None).await
    }

    /// Copies wait in retry tiers when their worker's queue is deleted, and come back to a missing one. What lay in the queue
    /// itself is put aside and put back, as an operator would.
    async fn target_missing(&self) -> anyhow::Result<()> {
        let Self {
            harness, processes, ..
        } = self;
        processes.kill_workers(harness).await?;
        self.gather(COPIES).await?;
        let queue = harness.broker.queue(QUEUES[0]);
        let mut aside = harness.broker.take(&queue, usize::MAX).await?;
        let publisher = harness.broker.publisher().await?;
        let copies = aside.split_off(aside.len().saturating_sub(COPIES as usize));
        for message in &copies {
            // As a worker writes them after a first attempt.
            let mut headers = message.properties.headers().clone().unwrap_or_default();
            headers.insert("x-attempt".into(), AMQPValue::LongLongInt(2));
            let properties = message.properties.clone().with_headers(headers);
            let retry_tier = harness.broker.queue(RETRY_TIER);
            publisher
                .raw("", &retry_tier, &message.body, properties)
                .await?;
        }
        let copies = copies.len();
        let channel = harness.broker.channel().await?;
        channel
            .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
            .await?;
        print(&format!(
            "  {copies} copies in a retry tier come back to a queue that is missing"
        ));
        sleep(MISSING).await;
        processes.start_workers(harness).await;
        let begin = Instant::now();
        while !matches!(harness.broker.consumers(&queue).await, Ok(Some(1..))) {
            if begin.elapsed() > CONSUMED_AGAIN {
                bail!("{queue} was not consumed again within {CONSUMED_AGAIN:?}");
            }
            sleep(LOOK).await;
        }
        for message in aside {
            let properties = message.properties.clone();
            publisher.raw("", &queue, &message.body, properties).await?;
        }
        Ok(())
    }

    /// The broker takes the channels of all workers away; they must consume again.
    async fn consumer_timeout(&self) -> anyhow::Result<()> {
        let Self {
            harness, processes, ..
        } = self;
        let limit = |ms: u64| format!("application:set_env(rabbit, consumer_timeout, {ms}).");
        harness
            .rabbit
            .ctl(&["eval", &limit(SHORT_TIMEOUT_MS)])
            .await;
        // A channel keeps the limit that it was opened with.
        self.cut_broker().await?;
        processes.all_ready().await?;
        harness.postgres.pause().await;
        let begin = Instant::now();
        let ended = async || processes.logged_by_workers(TIMED_OUT).await;
        while ended().await == 0 && begin.elapsed() < TIMED_OUT_WITHIN {
            sleep(LOOK).await;
        }
        let times = ended().await;
        harness.postgres.resume().await;
        harness
            .rabbit
            .ctl(&["eval", &limit(USUAL_TIMEOUT_MS)])
            .await;
        if times == 0 {
            bail!("no channel was closed within {TIMED_OUT_WITHIN:?}");
        }
        print(&format!(
            "  a channel was closed after {} s",
            begin.elapsed().as_secs()
        ));
        Ok(())
    }

    /// Waits until so many messages lie in the worker's queue; nobody takes any. Answers with their number.
    async fn gather(&self, wanted: u32) -> anyhow::Result<u32> {
        let queue = self.harness.broker.queue(QUEUES[0]);
        let begin = Instant::now();
        loop {
            let depth = self.harness.broker.depth(&queue).await?.unwrap_or_default();
            if depth >= wanted {
                return Ok(depth);
            }
            if begin.elapsed() > GATHERED {
                bail!("{depth} of {wanted} messages within {GATHERED:?}: give it more minutes");
            }
            sleep(LOOK).await;
        }
    }

    async fn publish_again(&self, event: usize) -> anyhow::Result<()> {
        let repeat = Delivery {
            at: Duration::ZERO,
            events: vec![event],
            way: Way::Amqp,
        };
        self.publishing.send(repeat).await?;
        Ok(())
    }
}

/// What a machine that is much too busy has not done in its time is tried again.
async fn again<T>(work: impl AsyncFn() -> T) -> anyhow::Result<T> {
    let mut tries = 1;
    loop {
        match caught(async { Ok(work().await) }).await {
            Err(_) if tries < TRIES => tries += 1,
            done => return done,
        }
    }
}
