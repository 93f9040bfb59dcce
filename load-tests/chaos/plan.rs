//! The trouble of a run: what happens when, made from the seed alone. Several lanes run beside each other; within a lane
//! one trouble ends before the next begins, however late.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};

use crate::story::TENANTS;

/// The processes that run beside each other.
pub(crate) const CREW: [Role; 7] = [
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
pub(crate) enum Trouble {
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
    /// The worker's queue is missing when what waits in its rungs comes back.
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
    pub(crate) trouble: Trouble,
}

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// Trouble of every kind at once
    Everything,
    /// One of the workers is killed every two seconds; nothing else
    Workers,
    /// The broker is killed five times
    Broker,
    /// The database is killed five times
    Database,
    /// Each event comes five times, in random order; no trouble
    Storm,
    /// The broker takes no messages for a minute, then its disk is full for half a minute
    Alarm,
    /// An event ends every worker that claims it; more than a hundred others lie beside it
    Poison,
    /// The worker's queue is missing when what waits in its rungs comes back; 4 minutes
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

/// The first trouble comes when there is work.
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
            Trouble::BrokerKill {
                away: ms(dice, 0..BROKER_AWAY_MS),
            }
        })],
        Scenario::Database => vec![spread(publishing, &mut dice(4), |dice| {
            Trouble::DatabaseKill {
                away: ms(dice, 0..6_000),
            }
        })],
        Scenario::Storm => Vec::new(),
        Scenario::Alarm => vec![vec![
            Step {
                at: FIRST,
                trouble: Trouble::MemoryAlarm {
                    lasting: MEMORY_ALARM,
                },
            },
            Step {
                at: FIRST,
                trouble: Trouble::DiskAlarm {
                    lasting: DISK_ALARM,
                },
            },
        ]],
        Scenario::Poison => once(publishing, Trouble::Poison),
        Scenario::Target => once(publishing, Trouble::TargetMissing),
        Scenario::Timeout => once(publishing, Trouble::ConsumerTimeout),
    }
}

/// One trouble, when half of all is published.
fn once(publishing: Duration, trouble: Trouble) -> Vec<Vec<Step>> {
    let at = publishing / 2;
    vec![vec![Step { at, trouble }]]
}

/// Troubles from shuffled decks: no kind comes again before all others have come.
fn lane(
    publishing: Duration,
    between: std::ops::Range<u64>,
    dice: &mut StdRng,
    deck: fn(&mut StdRng) -> Vec<Trouble>,
) -> Vec<Step> {
    let (mut steps, mut left) = (Vec::new(), Vec::new());
    let mut at = FIRST;
    while at < publishing {
        if left.is_empty() {
            left = deck(dice);
            left.shuffle(dice);
        }
        steps.extend(left.pop().map(|trouble| Step { at, trouble }));
        at += ms(dice, between.clone());
    }
    steps
}

fn spread(
    publishing: Duration,
    dice: &mut StdRng,
    trouble: impl Fn(&mut StdRng) -> Trouble,
) -> Vec<Step> {
    let each = publishing / (SERVER_KILLS + 1);
    (1..=SERVER_KILLS)
        .map(|nth| Step {
            at: each * nth,
            trouble: trouble(dice),
        })
        .collect()
}

fn workers(publishing: Duration, dice: &mut StdRng) -> Vec<Step> {
    let (mut steps, mut at) = (Vec::new(), FIRST);
    while at < publishing {
        let slot = slot_of(dice, Role::Worker);
        let away = Duration::ZERO;
        let trouble = Trouble::Kill { slot, away };
        steps.push(Step { at, trouble });
        at += BETWEEN_WORKERS;
    }
    steps
}

fn processes(dice: &mut StdRng) -> Vec<Trouble> {
    let mut deck = Vec::new();
    for role in [
        Role::Worker,
        Role::Worker,
        Role::Worker,
        Role::Keeper,
        Role::Gateway,
    ] {
        deck.push(Trouble::Kill {
            slot: slot_of(dice, role),
            away: ms(dice, 0..1_500),
        });
        deck.push(Trouble::Freeze {
            slot: slot_of(dice, role),
            still: ms(dice, STILL_MS),
        });
    }
    for role in [Role::Worker, Role::Keeper, Role::Gateway] {
        let slot = slot_of(dice, role);
        deck.push(Trouble::Restart { slot });
    }
    deck
}

fn broker(dice: &mut StdRng) -> Vec<Trouble> {
    vec![
        Trouble::BrokerKill {
            away: ms(dice, 0..5_000),
        },
        Trouble::BrokerRestart,
        Trouble::BrokerPause {
            still: ms(dice, 300..6_000),
        },
        Trouble::CutBroker,
        Trouble::CutBroker,
        Trouble::MemoryAlarm {
            lasting: ms(dice, 2_000..8_000),
        },
        Trouble::DiskAlarm {
            lasting: ms(dice, 2_000..8_000),
        },
        Trouble::QueueLoss,
    ]
}

fn database(dice: &mut StdRng) -> Vec<Trouble> {
    vec![
        Trouble::DatabaseKill {
            away: ms(dice, 0..4_000),
        },
        Trouble::DatabaseRestart,
        Trouble::DatabasePause {
            still: ms(dice, 300..6_000),
        },
        Trouble::CutDatabase,
        Trouble::CutDatabase,
    ]
}

fn partner(dice: &mut StdRng) -> Vec<Trouble> {
    let writes = |dice: &mut StdRng| dice.random_range(1..4);
    vec![
        Trouble::WrongKey {
            company: company(dice),
            lasting: ms(dice, 2_000..8_000),
            repair: Repair::Test,
        },
        Trouble::WrongKey {
            company: company(dice),
            lasting: ms(dice, 2_000..8_000),
            repair: Repair::Update,
        },
        Trouble::OneRefusedLogin {
            company: company(dice),
        },
        Trouble::Outage {
            lasting: ms(dice, 300..4_000),
        },
        Trouble::Refusals {
            company: company(dice),
            writes: writes(dice),
        },
        Trouble::LyingRefusals {
            company: company(dice),
            writes: writes(dice),
        },
        Trouble::Quota {
            company: company(dice),
            calls: writes(dice),
        },
        Trouble::LateCommits {
            company: company(dice),
        },
    ]
}

fn slot_of(dice: &mut StdRng, role: Role) -> usize {
    let slots: Vec<usize> = (0..CREW.len()).filter(|slot| CREW[*slot] == role).collect();
    slots.choose(dice).copied().unwrap_or_default()
}

fn company(dice: &mut StdRng) -> &'static str {
    let accounts: Vec<_> = TENANTS.iter().flat_map(|tenant| tenant.accounts).collect();
    accounts.choose(dice).map_or("", |account| account.company)
}

fn ms(dice: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(dice.random_range(range))
}
