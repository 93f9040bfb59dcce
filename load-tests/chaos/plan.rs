//! The injected faults of a run: what happens when, made from the seed alone. Several lanes run beside each other; within a lane
//! one fault ends before the next begins, however late.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};

use crate::workload::TENANTS;

/// The processes that run beside each other.
pub(crate) const PROCESSES: [Role; 7] = [
    Role::Worker,
    Role::Worker,
    Role::Worker,
    Role::Keeper,
    Role::Keeper,
    Role::Gateway,
    Role::Gateway,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    Worker,
    Keeper,
    Gateway,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Keeper => "keeper",
            Self::Gateway => "gateway",
        }
    }
}

/// How a suspended connection is repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// At the partner; `kurir connection test`.
    Test,
    /// New credentials: `kurir connection update`, then `test`.
    Update,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InjectedFault {
    /// `kill -9`, away for so long.
    Kill {
        slot: usize,
        away: Duration,
    },
    /// `SIGSTOP`, `SIGCONT`.
    Freeze {
        slot: usize,
        still: Duration,
    },
    /// `SIGTERM`, waited for, started again.
    Restart {
        slot: usize,
    },
    BrokerKill {
        away: Duration,
    },
    BrokerRestart,
    BrokerPause {
        still: Duration,
    },
    /// All connections of all clients are closed by the broker.
    CutBroker,
    MemoryAlarm {
        lasting: Duration,
    },
    DiskAlarm {
        lasting: Duration,
    },
    /// The worker's queue is deleted with what lies in it; the publisher repeats what is not done.
    QueueLoss,
    DatabaseKill {
        away: Duration,
    },
    DatabaseRestart,
    DatabasePause {
        still: Duration,
    },
    /// All connections of all clients are ended by the database.
    CutDatabase,
    /// A company refuses the credentials.
    WrongKey {
        company: &'static str,
        lasting: Duration,
        repair: Repair,
    },
    /// One call is answered as if the credentials were wrong.
    OneRefusedLogin {
        company: &'static str,
    },
    /// The partner is not there.
    Outage {
        lasting: Duration,
    },
    /// The next writes are refused with a reason that waiting would not help.
    Refusals {
        company: &'static str,
        writes: u32,
    },
    /// The next updates are refused so, and stored all the same.
    LyingRefusals {
        company: &'static str,
        writes: u32,
    },
    /// The next calls find the quota used up.
    Quota {
        company: &'static str,
        calls: u32,
    },
    /// An event ends every worker that claims it, until it is held as poison.
    Poison,
    /// The worker's queue is missing when what waits in its retry tiers comes back.
    TargetMissing,
    /// The database stands still for longer than the broker waits for an acknowledgement.
    ConsumerTimeout,
    /// The next writes are stored late, each with another answer before.
    LateCommits {
        company: &'static str,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// Since the begin of publishing.
    pub(crate) at: Duration,
    pub(crate) injected_fault: InjectedFault,
}

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// Injected faults of every kind at once
    Everything,
    /// One of the workers is killed every two seconds; nothing else
    Workers,
    /// The broker is killed five times
    Broker,
    /// The database is killed five times
    Database,
    /// Each event comes five times, in random order; no fault
    Storm,
    /// The broker takes no messages for a minute, then its disk is full for half a minute
    Alarm,
    /// An event ends every worker that claims it; more than a hundred others lie beside it
    Poison,
    /// The worker's queue is missing when what waits in its retry tiers comes back; 4 minutes
    Target,
    /// No acknowledgement for longer than the broker waits for one; 3 minutes
    Timeout,
}

impl Scenario {
    /// As on the command line.
    pub(crate) fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether the partner fails by chance.
    pub(crate) fn partner_fails(self) -> bool {
        self != Self::Storm
    }
}

/// The first fault comes when there is work.
const FIRST: Duration = Duration::from_secs(3);
const BETWEEN_PROCESSES_MS: std::ops::Range<u64> = 1_500..5_000;
const BETWEEN_SERVERS_MS: std::ops::Range<u64> = 5_000..13_000;
const BETWEEN_PARTNER_MS: std::ops::Range<u64> = 3_000..8_000;
/// As long as a broker is away at most, in its own scenario.
const BROKER_AWAY_MS: u64 = 20_000;
const BETWEEN_WORKERS: Duration = Duration::from_secs(2);
const SERVER_KILLS: u32 = 5;
const MEMORY_ALARM: Duration = Duration::from_secs(60);
const DISK_ALARM: Duration = Duration::from_secs(30);
/// How long a process stands still: shorter and longer than a lease, shorter than the settle time (a call that leaves
/// later than that is R2 of docs/tests.md).
const STILL_MS: std::ops::Range<u64> = 200..3_500;

pub(crate) fn lanes(seed: u64, scenario: Scenario, publishing: Duration) -> Vec<Vec<Step>> {
    let dice = |lane: u64| StdRng::seed_from_u64(seed ^ (lane << 32));
    match scenario {
        Scenario::Everything => vec![
            lane(publishing, BETWEEN_PROCESSES_MS, &mut dice(1), processes),
            lane(publishing, BETWEEN_PROCESSES_MS, &mut dice(2), processes),
            lane(publishing, BETWEEN_SERVERS_MS, &mut dice(3), broker),
            lane(publishing, BETWEEN_SERVERS_MS, &mut dice(4), database),
            lane(publishing, BETWEEN_PARTNER_MS, &mut dice(5), partner),
        ],
        Scenario::Workers => vec![workers(publishing, &mut dice(1))],
        Scenario::Broker => vec![spread(publishing, &mut dice(3), |dice| {
            InjectedFault::BrokerKill {
                away: ms(dice, 0..BROKER_AWAY_MS),
            }
        })],
        Scenario::Database => vec![spread(publishing, &mut dice(4), |dice| {
            InjectedFault::DatabaseKill {
                away: ms(dice, 0..6_000),
            }
        })],
        Scenario::Storm => Vec::new(),
        Scenario::Alarm => vec![vec![
            Step {
                at: FIRST,
                injected_fault: InjectedFault::MemoryAlarm {
                    lasting: MEMORY_ALARM,
                },
            },
            Step {
                at: FIRST,
                injected_fault: InjectedFault::DiskAlarm {
                    lasting: DISK_ALARM,
                },
            },
        ]],
        Scenario::Poison => once(publishing, InjectedFault::Poison),
        Scenario::Target => once(publishing, InjectedFault::TargetMissing),
        Scenario::Timeout => once(publishing, InjectedFault::ConsumerTimeout),
    }
}

/// One fault, when half of all is published.
fn once(publishing: Duration, injected_fault: InjectedFault) -> Vec<Vec<Step>> {
    let at = publishing / 2;
    vec![vec![Step { at, injected_fault }]]
}

/// Troubles from shuffled decks: no kind comes again before all others have come.
fn lane(
    publishing: Duration,
    between: std::ops::Range<u64>,
    dice: &mut StdRng,
    deck: fn(&mut StdRng) -> Vec<InjectedFault>,
) -> Vec<Step> {
    let (mut steps, mut left) = (Vec::new(), Vec::new());
    let mut at = FIRST;
    while at < publishing {
        if left.is_empty() {
            left = deck(dice);
            left.shuffle(dice);
        }
        steps.extend(left.pop().map(|injected_fault| Step { at, injected_fault }));
        at += ms(dice, between.clone());
    }
    steps
}

fn spread(
    publishing: Duration,
    dice: &mut StdRng,
    injected_fault: impl Fn(&mut StdRng) -> InjectedFault,
) -> Vec<Step> {
    let each = publishing / (SERVER_KILLS + 1);
    (1..=SERVER_KILLS)
        .map(|nth| Step {
            at: each * nth,
            injected_fault: injected_fault(dice),
        })
        .collect()
}

fn workers(publishing: Duration, dice: &mut StdRng) -> Vec<Step> {
    let (mut steps, mut at) = (Vec::new(), FIRST);
    while at < publishing {
        let slot = slot_of(dice, Role::Worker);
        let away = Duration::ZERO;
        let injected_fault = InjectedFault::Kill { slot, away };
        steps.push(Step { at, injected_fault });
        at += BETWEEN_WORKERS;
    }
    steps
}

fn processes(dice: &mut StdRng) -> Vec<InjectedFault> {
    let mut deck = Vec::new();
    for role in [
        Role::Worker,
        Role::Worker,
        Role::Worker,
        Role::Keeper,
        Role::Gateway,
    ] {
        deck.push(InjectedFault::Kill {
            slot: slot_of(dice, role),
            away: ms(dice, 0..1_500),
        });
        deck.push(InjectedFault::Freeze {
            slot: slot_of(dice, role),
            still: ms(dice, STILL_MS),
        });
    }
    for role in [Role::Worker, Role::Keeper, Role::Gateway] {
        let slot = slot_of(dice, role);
        deck.push(InjectedFault::Restart { slot });
    }
    deck
}

fn broker(dice: &mut StdRng) -> Vec<InjectedFault> {
    vec![
        InjectedFault::BrokerKill {
            away: ms(dice, 0..5_000),
        },
        InjectedFault::BrokerRestart,
        InjectedFault::BrokerPause {
            still: ms(dice, 300..6_000),
        },
        InjectedFault::CutBroker,
        InjectedFault::CutBroker,
        InjectedFault::MemoryAlarm {
            lasting: ms(dice, 2_000..8_000),
        },
        InjectedFault::DiskAlarm {
            lasting: ms(dice, 2_000..8_000),
        },
        InjectedFault::QueueLoss,
    ]
}

fn database(dice: &mut StdRng) -> Vec<InjectedFault> {
    vec![
        InjectedFault::DatabaseKill {
            away: ms(dice, 0..4_000),
        },
        InjectedFault::DatabaseRestart,
        InjectedFault::DatabasePause {
            still: ms(dice, 300..6_000),
        },
        InjectedFault::CutDatabase,
        InjectedFault::CutDatabase,
    ]
}

fn partner(dice: &mut StdRng) -> Vec<InjectedFault> {
    let writes = |dice: &mut StdRng| dice.random_range(1..4);
    vec![
        InjectedFault::WrongKey {
            company: company(dice),
            lasting: ms(dice, 2_000..8_000),
            repair: Repair::Test,
        },
        InjectedFault::WrongKey {
            company: company(dice),
            lasting: ms(dice, 2_000..8_000),
            repair: Repair::Update,
        },
        InjectedFault::OneRefusedLogin {
            company: company(dice),
        },
        InjectedFault::Outage {
            lasting: ms(dice, 300..4_000),
        },
        InjectedFault::Refusals {
            company: company(dice),
            writes: writes(dice),
        },
        InjectedFault::LyingRefusals {
            company: company(dice),
            writes: writes(dice),
        },
        InjectedFault::Quota {
            company: company(dice),
            calls: writes(dice),
        },
        InjectedFault::LateCommits {
            company: company(dice),
        },
    ]
}

fn slot_of(dice: &mut StdRng, role: Role) -> usize {
    let slots: Vec<usize> = (0..PROCESSES.len())
        .filter(|slot| PROCESSES[*slot] == role)
        .collect();
    slots.choose(dice).copied().unwrap_or_default()
}

fn company(dice: &mut StdRng) -> &'static str {
    let accounts: Vec<_> = TENANTS.iter().flat_map(|tenant| tenant.accounts).collect();
    accounts.choose(dice).map_or("", |account| account.company)
}

fn ms(dice: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(dice.random_range(range))
}
