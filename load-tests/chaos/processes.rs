//! The processes of a run, each in its slot, and who starts them again: what was killed by the plan comes back when the
//! plan says so, what ended by itself is noted and comes back at once, as any supervisor would do it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use testkit::{Http, Running};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::harness::{Harness, WORKER};
use crate::plan::{PROCESSES, Role};

/// Between two rounds of the supervisor.
const ROUND: Duration = Duration::from_millis(500);
/// A process that stands still does not answer.
const PROBE: Duration = Duration::from_millis(300);
/// A stopped process drains for at most 25 s, then closes its connections.
const STOP: Duration = Duration::from_secs(60);
const STOP_LOOK: Duration = Duration::from_millis(50);
/// From the end of all injected faults to the last ready process.
const READY: Duration = Duration::from_secs(60);
/// `kurir`'s exit code for "a server cannot be reached", given by a process that never had one.
const UNAVAILABLE: i32 = 69;

pub(crate) struct Processes {
    slots: Vec<Slot>,
    notes: std::sync::Mutex<Notes>,
    /// Id of an event that ends every worker that claims it.
    poison: std::sync::Mutex<Option<String>>,
}

struct Slot {
    role: Role,
    process: Mutex<Option<Process>>,
    http: RwLock<Option<Http>>,
    starts: AtomicU32,
}

struct Process {
    running: Running,
    name: String,
    was_ready: bool,
}

/// What happened to processes beside the plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// Ended by themselves although they had been ready, or in a way that no unreachable server explains.
    pub(crate) exits: Vec<String>,
    /// Gave up while a server was away at their start.
    pub(crate) gave_up: u32,
    /// Workers that a poison event has ended.
    pub(crate) poisoned: u32,
    /// Stopped in order, with another exit code than 0 (servers were away).
    pub(crate) unclean_stops: Vec<String>,
    /// The most memory that a process of a role has had, in MB.
    pub(crate) memory: BTreeMap<Role, u64>,
}

impl Processes {
    /// All of them, not yet ready.
    pub(crate) async fn start(harness: &Harness) -> anyhow::Result<Self> {
        fs::create_dir_all(harness.folder.join("logs"))?;
        let slots = PROCESSES.map(|role| Slot {
            role,
            process: Mutex::new(None),
            http: RwLock::new(None),
            starts: AtomicU32::new(0),
        });
        let processes = Self {
            slots: slots.into(),
            notes: std::sync::Mutex::default(),
            poison: std::sync::Mutex::default(),
        };
        for slot in 0..processes.slots.len() {
            let mut process = processes.slots[slot].process.lock().await;
            processes.launch(harness, slot, &mut process);
        }
        Ok(processes)
    }

    pub(crate) fn notes(&self) -> Notes {
        self.noting().clone()
    }

    fn noting(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self, harness: &Harness, slot: usize, place: &mut Option<Process>) {
        let of = &self.slots[slot];
        let kurir = match of.role {
            Role::Worker => {
                let worker = harness
                    .kurir(&["worker", WORKER])
                    .listen("health", "health.worker");
                match self.poison().as_deref() {
                    Some(event) => {
                        worker.failpoint_if_reached(&format!("after_claim:kill:1:{event}"))
                    }
                    None => worker,
                }
            }
            Role::Keeper => harness.kurir(&["keeper"]).listen("health", "health.keeper"),
            Role::Gateway => harness
                .kurir(&["gateway"])
                .listen("health", "health.gateway")
                .listen("gateway", "gateway.listen"),
        };
        let start = of.starts.fetch_add(1, Ordering::Relaxed) + 1;
        let running = kurir.start();
        if of.role == Role::Gateway {
            *of.http.write().unwrap_or_else(PoisonError::into_inner) =
                Some(running.http("gateway"));
        }
        *place = Some(Process {
            running,
            name: format!("{}-{slot}-{start}", of.role.name()),
            was_ready: false,
        });
    }

    fn poison(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.poison.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this event ends every worker that claims it; `None`: no event does. All workers are started again.
    pub(crate) async fn set_poison(
        &self,
        harness: &Harness,
        event: Option<String>,
    ) -> anyhow::Result<()> {
        *self.poison() = event;
        for slot in self.workers() {
            self.kill(harness, slot, Duration::ZERO).await?;
        }
        Ok(())
    }

    fn workers(&self) -> Vec<usize> {
        let slots = 0..self.slots.len();
        slots
            .filter(|slot| self.slots[*slot].role == Role::Worker)
            .collect()
    }

    /// Kills all workers and leaves them away.
    pub(crate) async fn kill_workers(&self, harness: &Harness) -> anyhow::Result<()> {
        for slot in self.workers() {
            let killed = self.slots[slot].process.lock().await.take();
            if let Some(killed) = killed {
                retire(harness, killed, true).await?;
            }
        }
        Ok(())
    }

    /// Starts the workers that are away.
    pub(crate) async fn start_workers(&self, harness: &Harness) {
        for slot in self.workers() {
            let mut place = self.slots[slot].process.lock().await;
            if place.is_none() {
                self.launch(harness, slot, &mut place);
            }
        }
    }

    /// How often this stands in the logs of the workers that run now.
    pub(crate) async fn logged_by_workers(&self, text: &str) -> usize {
        let mut times = 0;
        for slot in self.workers() {
            let place = self.slots[slot].process.lock().await;
            let lines = place.as_ref();
            times += lines.map_or(0, |process| {
                process.running.count_lines(|line| line.contains(text))
            });
        }
        times
    }

    /// A gateway, another one for each `turn`; it may be away.
    pub(crate) fn gateway(&self, turn: usize) -> Option<Http> {
        let gateways: Vec<&Slot> = self
            .slots
            .iter()
            .filter(|slot| slot.role == Role::Gateway)
            .collect();
        let slot = gateways.get(turn % gateways.len().max(1))?;
        let http = slot.http.read().unwrap_or_else(PoisonError::into_inner);
        http.clone()
    }

    pub(crate) async fn kill(
        &self,
        harness: &Harness,
        slot: usize,
        away: Duration,
    ) -> anyhow::Result<()> {
        let mut process = self.slots[slot].process.lock().await;
        if let Some(killed) = process.take() {
            self.measure(self.slots[slot].role, killed.running.pid());
            retire(harness, killed, true).await?;
        }
        sleep(away).await;
        self.launch(harness, slot, &mut process);
        Ok(())
    }

    pub(crate) async fn freeze(&self, slot: usize, still: Duration) {
        let process = self.slots[slot].process.lock().await;
        // One that has ended can't stand still; the supervisor has it next.
        if let Some(process) = process
            .as_ref()
            .filter(|one| one.running.status().is_none())
        {
            process.running.freeze().await;
            sleep(still).await;
            process.running.thaw();
        }
    }

    pub(crate) async fn restart(&self, harness: &Harness, slot: usize) -> anyhow::Result<()> {
        let mut process = self.slots[slot].process.lock().await;
        self.stop(harness, slot, &mut process).await?;
        self.launch(harness, slot, &mut process);
        Ok(())
    }

    async fn stop(
        &self,
        harness: &Harness,
        slot: usize,
        place: &mut MutexGuard<'_, Option<Process>>,
    ) -> anyhow::Result<()> {
        let Some(stopped) = place.take() else {
            return Ok(());
        };
        self.measure(self.slots[slot].role, stopped.running.pid());
        stopped.running.terminate();
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = stopped.running.status() {
                break Some(status);
            }
            if begin.elapsed() > STOP {
                break None;
            }
            sleep(STOP_LOOK).await;
        };
        let name = &stopped.name;
        match status.map(|status| status.code()) {
            Some(Some(0)) => {}
            Some(code) => self
                .noting()
                .unclean_stops
                .push(format!("{name}: {code:?}")),
            None => self.noting().exits.push(format!(
                "{name} was asked to stop and still ran {STOP:?} later"
            )),
        }
        retire(harness, stopped, true).await
    }

    /// Until it is cancelled: notes memory and readiness, starts what ended by itself.
    pub(crate) async fn supervise(
        &self,
        harness: &Harness,
        end: &CancellationToken,
    ) -> anyhow::Result<()> {
        while timeout(ROUND, end.cancelled()).await.is_err() {
            for slot in 0..self.slots.len() {
                // In the hands of the plan.
                let Ok(mut place) = self.slots[slot].process.try_lock() else {
                    continue;
                };
                self.look_at(harness, slot, &mut place).await?;
            }
        }
        Ok(())
    }

    async fn look_at(
        &self,
        harness: &Harness,
        slot: usize,
        place: &mut Option<Process>,
    ) -> anyhow::Result<()> {
        let Some(process) = place.as_mut() else {
            return Ok(());
        };
        if let Some(status) = process.running.status() {
            let gave_up = status.code() == Some(UNAVAILABLE) && !process.was_ready;
            let poisoned = status.code().is_none() && self.poison().is_some();
            if gave_up {
                self.noting().gave_up += 1;
            } else if poisoned && self.slots[slot].role == Role::Worker {
                self.noting().poisoned += 1;
            } else {
                let line = format!("{} ended by itself: {status}", process.name);
                self.noting().exits.push(line);
            }
            if let Some(ended) = place.take() {
                retire(harness, ended, false).await?;
            }
            self.launch(harness, slot, place);
            return Ok(());
        }
        self.measure(self.slots[slot].role, process.running.pid());
        if !process.was_ready {
            process.was_ready = is_ready(&process.running).await;
        }
        Ok(())
    }

    fn measure(&self, role: Role, pid: u32) {
        let peak = peak_memory(pid);
        let mut notes = self.noting();
        let most = notes.memory.entry(role).or_default();
        *most = peak.max(*most);
    }

    /// Waits until all answer that they are ready. The supervisor must run.
    pub(crate) async fn all_ready(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let mut missing = Vec::new();
            for slot in &self.slots {
                let place = slot.process.lock().await;
                match place.as_ref() {
                    Some(process) if is_ready(&process.running).await => {}
                    Some(process) => missing.push(process.name.clone()),
                    None => missing.push(slot.role.name().to_owned()),
                }
            }
            if missing.is_empty() {
                return Ok(());
            }
            if begin.elapsed() > READY {
                bail!("not ready within {READY:?}: {}", missing.join(", "));
            }
            sleep(ROUND).await;
        }
    }

    /// Stops all processes of these roles, all at once. Nobody supervises any more.
    pub(crate) async fn stop_all(&self, harness: &Harness, roles: &[Role]) -> anyhow::Result<()> {
        let stopping = (0..self.slots.len())
            .filter(|slot| roles.contains(&self.slots[*slot].role))
            .map(|slot| async move {
                let mut place = self.slots[slot].process.lock().await;
                self.stop(harness, slot, &mut place).await
            });
        for stopped in futures_util::future::join_all(stopping).await {
            stopped?;
        }
        Ok(())
    }

    /// Whatever state they are in: nothing runs and all logs are kept.
    pub(crate) async fn kill_all(&self, harness: &Harness) {
        for slot in &self.slots {
            if let Some(process) = slot.process.lock().await.take() {
                let _ = retire(harness, process, true).await;
            }
        }
    }
}

async fn is_ready(running: &Running) -> bool {
    let health = running.http("health");
    let answered = timeout(PROBE, health.get("/readyz")).await;
    matches!(answered, Ok(Ok(answer)) if answer.status == 200)
}

/// The most memory that a living process has had, in MB.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes: Option<u64> = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    kilobytes.unwrap_or_default() / 1_024
}

/// Ends it, keeps its log.
async fn retire(harness: &Harness, process: Process, kill: bool) -> anyhow::Result<()> {
    let to = harness
        .folder
        .join("logs")
        .join(format!("{}.log", process.name));
    // Its pipes are read to their end by a thread, which is waited for.
    tokio::task::spawn_blocking(move || {
        if kill {
            process.running.kill();
        }
        keep(process.running.log_file(), &to)
    })
    .await?
}

fn keep(log: &Path, to: &Path) -> anyhow::Result<()> {
    // A link sees also the lines that are still on their way to the file.
    fs::hard_link(log, to)
        .or_else(|_| fs::copy(log, to).map(drop))
        .with_context(|| format!("{} cannot be kept", log.display()))
}
