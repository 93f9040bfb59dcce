//! Does what the plan says. Each trouble ends what it began: when a lane is through, its servers run and answer.

use std::time::Duration;

use anyhow::{Context as _, bail};
use lapin::options::QueueDeleteOptions;
use lapin::types::AMQPValue;
use simulators::metakocka::{Call, Fault, LateAnswer, ScriptedFault};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, sleep_until};

use crate::crew::Crew;
use crate::output::say;
use crate::plan::{Repair, Step, Trouble};
use crate::publish::Accepted;
use crate::stage::{LATEST_MS, QUEUES, Stage, caught};
use crate::story::{Delivery, Story, Way};
use crate::survey::Survey;

/// A queue that was deleted is declared and consumed again within this: rabbitmq.md asks for 35 s, and the broker may be
/// busy with another trouble's end.
const CONSUMED_AGAIN: Duration = Duration::from_secs(60);
/// A broker that has just come up answers its management API a little later.
const MANAGEMENT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(250);
/// Between two troubles of one lane at least.
const QUIET: Duration = Duration::from_millis(1_500);
/// Of starting a server, or of telling it something.
const TRIES: u32 = 3;
/// Claims of a poison event that never come back before it is held.
const LIVES: u32 = 3;
/// Three workers die of it and each waits for the lease of the one before.
const HELD: Duration = Duration::from_secs(120);
/// Events that lie beside the poison, in one prefetch.
const NEIGHBOURS: u32 = 127;
/// Copies that wait in a rung: more than the broker sends again at a time.
const COPIES: u32 = 100;
const RUNG: &str = "metakocka-sync.retry.5s";
/// Until so many events are published.
const GATHERED: Duration = Duration::from_secs(40);
/// Longer than the rung.
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

/// Who makes trouble, and what he needs for it.
pub(crate) struct Hand<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) crew: &'a Crew,
    pub(crate) story: &'a Story,
    pub(crate) accepted: &'a Accepted,
    /// For what a publisher must repeat.
    pub(crate) publishing: Sender<Delivery>,
    pub(crate) begin: Instant,
    /// No trouble begins later than this after `begin`.
    pub(crate) end: Duration,
}

/// A trouble that was made.
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
            self.make(step.trouble)
                .await
                .with_context(|| format!("{:?}", step.trouble))?;
            let took = self.begin.elapsed() - at;
            // Late, the next one would begin before anything has come back.
            sleep(QUIET).await;
            made.push(Made {
                step: format!("{:?}", step.trouble),
                at,
                took,
            });
        }
        Ok(made)
    }

    async fn make(&self, trouble: Trouble) -> anyhow::Result<()> {
        let Self { stage, crew, .. } = self;
        match trouble {
            Trouble::Kill { slot, away } => crew.kill(stage, slot, away).await?,
            Trouble::Freeze { slot, still } => crew.freeze(slot, still).await,
            Trouble::Restart { slot } => crew.restart(stage, slot).await?,
            Trouble::BrokerKill { away } => {
                stage.rabbit.kill().await;
                sleep(away).await;
                again(async || stage.rabbit.start_again().await).await?;
            }
            Trouble::BrokerRestart => {
                stage.rabbit.stop().await;
                again(async || stage.rabbit.start_again().await).await?;
            }
            Trouble::BrokerPause { still } => {
                stage.rabbit.pause().await;
                sleep(still).await;
                stage.rabbit.resume().await;
            }
            Trouble::CutBroker => self.cut_broker().await?,
            Trouble::MemoryAlarm { lasting } => {
                again(async || stage.rabbit.ctl(&MEMORY_ALARM).await).await?;
                sleep(lasting).await;
                again(async || stage.rabbit.ctl(&MEMORY_LIMIT).await).await?;
            }
            Trouble::DiskAlarm { lasting } => {
                again(async || stage.rabbit.ctl(&DISK_ALARM).await).await?;
                sleep(lasting).await;
                again(async || stage.rabbit.ctl(&DISK_LIMIT).await).await?;
            }
            Trouble::QueueLoss => self.lose_queue().await?,
            Trouble::DatabaseKill { away } => {
                stage.postgres.kill().await;
                sleep(away).await;
                again(async || stage.postgres.start_again().await).await?;
            }
            Trouble::DatabaseRestart => {
                stage.postgres.stop().await;
                again(async || stage.postgres.start_again().await).await?;
            }
            Trouble::DatabasePause { still } => {
                stage.postgres.pause().await;
                sleep(still).await;
                stage.postgres.resume().await;
            }
            Trouble::CutDatabase => {
                again(async || stage.database.disconnect_everybody().await).await?;
            }
            Trouble::WrongKey {
                company,
                lasting,
                repair,
            } => self.wrong_key(company, lasting, repair).await?,
            Trouble::OneRefusedLogin { company } => {
                self.script(company, Fault::Auth { code: 3 }, 1)?;
                // Perhaps no call meets it before the end: whoever ends the trouble looks after that.
            }
            Trouble::Outage { lasting } => {
                stage.simulator.outage(lasting)?;
                sleep(lasting).await;
            }
            Trouble::Refusals { company, writes } => {
                let fault = Fault::Refuse {
                    code: 6,
                    text: "Profit center A12 doesnt exist".to_owned(),
                };
                self.script_writes(company, fault, writes)?;
            }
            Trouble::LyingRefusals { company, writes } => {
                let fault = Fault::LyingRefusal {
                    code: 6,
                    text: "Warehouse B7 doesnt exist".to_owned(),
                };
                // Not creates: one that is refused and made all the same is R5 of docs/tests.md, for a person.
                self.stage.simulator.fault(
                    ScriptedFault::new(fault)
                        .of_company(company)
                        .on(Call::UpdatePartner)
                        .times(writes),
                )?;
            }
            Trouble::Quota { company, calls } => self.script(company, Fault::Quota, calls)?,
            Trouble::Poison => self.poison().await?,
            Trouble::TargetMissing => self.target_missing().await?,
            Trouble::ConsumerTimeout => self.consumer_timeout().await?,
            Trouble::LateCommits { company } => {
                for answer in [
                    LateAnswer::Error,
                    LateAnswer::Code1,
                    LateAnswer::Drop,
                    LateAnswer::Reset,
                    LateAnswer::Nothing,
                ] {
                    let fault = Fault::CommitLate {
                        after_ms: LATEST_MS,
                        answer,
                    };
                    self.script_writes(company, fault, 1)?;
                }
            }
        }
        Ok(())
    }

    fn script(&self, company: &str, fault: Fault, times: u32) -> anyhow::Result<()> {
        let fault = ScriptedFault::new(fault).of_company(company).times(times);
        self.stage.simulator.fault(fault)?;
        Ok(())
    }

    fn script_writes(&self, company: &str, fault: Fault, times: u32) -> anyhow::Result<()> {
        for call in [Call::AddPartner, Call::UpdatePartner] {
            let fault = ScriptedFault::new(fault.clone())
                .of_company(company)
                .on(call)
                .times(times);
            self.stage.simulator.fault(fault)?;
        }
        Ok(())
    }

    async fn wrong_key(
        &self,
        company: &'static str,
        lasting: Duration,
        repair: Repair,
    ) -> anyhow::Result<()> {
        let before = self.stage.key(company);
        let other = format!("{before}+");
        self.stage
            .change_key(company, &other, repair == Repair::Update);
        sleep(lasting).await;
        match repair {
            Repair::Test => self.stage.change_key(company, &before, true),
            Repair::Update => self.stage.update_connection(company).await?,
        }
        self.stage.test_connection(company).await
    }

    async fn cut_broker(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let (broker, vhost) = (&self.stage.broker, self.stage.broker.vhost());
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
        let queue = self.stage.broker.queue(QUEUES[0]);
        let channel = self.stage.broker.channel().await?;
        channel
            .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
            .await?;
        let begin = Instant::now();
        loop {
            match self.stage.broker.consumers(&queue).await {
                Ok(Some(consumers)) if consumers > 0 => break,
                other if begin.elapsed() > CONSUMED_AGAIN => {
                    bail!("{queue} was not consumed again within {CONSUMED_AGAIN:?}: {other:?}")
                }
                _ => sleep(LOOK).await,
            }
        }
        let survey = Survey::patient(self.stage).await?;
        for (at, event) in self.story.events.iter().enumerate() {
            if self.accepted.times(at) > 0 && !survey.is_done(self.story, event) {
                self.say_again(at).await?;
            }
        }
        Ok(())
    }

    /// The newest event of a record becomes poison while much else lies beside it; it must be held alone, and only then
    /// is the cause repaired.
    async fn poison(&self) -> anyhow::Result<()> {
        let Self { stage, crew, .. } = self;
        // Of a tenant with one account: with two it would be two claims.
        let record = self.story.records.iter().find(|record| {
            record.tenant.accounts.len() == 1 && !self.story.newest(record).deletes()
        });
        let record = record.context("a record of a tenant with one account")?;
        let poison = self.story.newest(record).id().to_owned();
        crew.kill_workers(stage).await?;
        let neighbours = self.gather(NEIGHBOURS).await?;
        let at = self
            .story
            .events
            .iter()
            .position(|event| event.id() == poison);
        self.say_again(at.context("the newest event is in the story")?)
            .await?;
        crew.set_poison(stage, Some(poison.clone())).await?;
        say(&format!(
            "  {poison} ends its workers, {neighbours} lie in its queue"
        ));
        let begin = Instant::now();
        loop {
            let survey = Survey::patient(stage).await?;
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
        let deaths = crew.notes().poisoned;
        if deaths != LIVES {
            bail!("{poison} ended {deaths} workers, {LIVES} are allowed");
        }
        crew.set_poison(stage, None).await
    }

    /// Copies wait in rungs when their worker's queue is deleted, and come back to a missing one. What lay in the queue
    /// itself is put aside and put back, as an operator would.
    async fn target_missing(&self) -> anyhow::Result<()> {
        let Self { stage, crew, .. } = self;
        crew.kill_workers(stage).await?;
        self.gather(COPIES).await?;
        let queue = stage.broker.queue(QUEUES[0]);
        let mut aside = stage.broker.take(&queue, usize::MAX).await?;
        let publisher = stage.broker.publisher().await?;
        let copies = aside.split_off(aside.len().saturating_sub(COPIES as usize));
        for message in &copies {
            // As a worker writes them after a first attempt.
            let mut headers = message.properties.headers().clone().unwrap_or_default();
            headers.insert("x-attempt".into(), AMQPValue::LongLongInt(2));
            let properties = message.properties.clone().with_headers(headers);
            let rung = stage.broker.queue(RUNG);
            publisher.raw("", &rung, &message.body, properties).await?;
        }
        let copies = copies.len();
        let channel = stage.broker.channel().await?;
        channel
            .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
            .await?;
        say(&format!(
            "  {copies} copies in a rung come back to a queue that is missing"
        ));
        sleep(MISSING).await;
        crew.start_workers(stage).await;
        let begin = Instant::now();
        while !matches!(stage.broker.consumers(&queue).await, Ok(Some(1..))) {
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
        let Self { stage, crew, .. } = self;
        let limit = |ms: u64| format!("application:set_env(rabbit, consumer_timeout, {ms}).");
        stage.rabbit.ctl(&["eval", &limit(SHORT_TIMEOUT_MS)]).await;
        // A channel keeps the limit that it was opened with.
        self.cut_broker().await?;
        crew.all_ready().await?;
        stage.postgres.pause().await;
        let begin = Instant::now();
        let ended = async || crew.said_by_workers(TIMED_OUT).await;
        while ended().await == 0 && begin.elapsed() < TIMED_OUT_WITHIN {
            sleep(LOOK).await;
        }
        let times = ended().await;
        stage.postgres.resume().await;
        stage.rabbit.ctl(&["eval", &limit(USUAL_TIMEOUT_MS)]).await;
        if times == 0 {
            bail!("no channel was closed within {TIMED_OUT_WITHIN:?}");
        }
        say(&format!(
            "  a channel was closed after {} s",
            begin.elapsed().as_secs()
        ));
        Ok(())
    }

    /// Waits until so many messages lie in the worker's queue; nobody takes any. Answers with their number.
    async fn gather(&self, wanted: u32) -> anyhow::Result<u32> {
        let queue = self.stage.broker.queue(QUEUES[0]);
        let begin = Instant::now();
        loop {
            let depth = self.stage.broker.depth(&queue).await?.unwrap_or_default();
            if depth >= wanted {
                return Ok(depth);
            }
            if begin.elapsed() > GATHERED {
                bail!("{depth} of {wanted} messages within {GATHERED:?}: give it more minutes");
            }
            sleep(LOOK).await;
        }
    }

    async fn say_again(&self, event: usize) -> anyhow::Result<()> {
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
