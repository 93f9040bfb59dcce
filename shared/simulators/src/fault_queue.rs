//! Which fault a call meets: the scripted ones in their order, then the dice.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use crate::error::Error;
use crate::fault::{Fault, RandomFault, ScriptedFault, check};

/// Most scripted faults that may wait.
const MAX_SCRIPTED: usize = 10_000;

/// The queue of scripted faults and the dice.
#[derive(Debug)]
pub(crate) struct Faults<F, C> {
    scripted: Vec<Script<F, C>>,
    next_id: u64,
    random: Vec<RandomFault<F, C>>,
    dice: StdRng,
}

/// A scripted fault and how far it is.
#[derive(Clone, Debug, Serialize)]
pub struct Script<F, C> {
    pub id: u64,
    #[serde(flatten)]
    pub scripted: ScriptedFault<F, C>,
    /// Calls it matched while it was the first in the queue to do so.
    pub matched: u32,
    pub happened: u32,
}

impl<F: Fault, C: Copy + Eq> Faults<F, C> {
    pub(crate) fn new(seed: u64) -> Self {
        Faults {
            scripted: Vec::new(),
            next_id: 1,
            random: Vec::new(),
            dice: StdRng::seed_from_u64(seed),
        }
    }

    pub(crate) fn script(&mut self, scripted: ScriptedFault<F, C>) -> Result<u64, Error> {
        check(&scripted.fault)?;
        if self.scripted.len() >= MAX_SCRIPTED {
            return Err(Error::Full("more scripted faults than MAX_SCRIPTED"));
        }
        let id = self.next_id;
        self.next_id += 1;
        self.scripted.push(Script {
            id,
            scripted,
            matched: 0,
            happened: 0,
        });
        Ok(id)
    }

    pub(crate) fn set_random(&mut self, random: Vec<RandomFault<F, C>>) -> Result<(), Error> {
        for entry in &random {
            check(&entry.fault)?;
        }
        let right = random.iter().all(|entry| (0.0..=1.0).contains(&entry.rate));
        // A hair of room: ten times 0.1 is a little more than 1.
        if !right || random.iter().map(|entry| entry.rate).sum::<f64>() > 1.000_001 {
            return Err(Error::Invalid(
                "rates must be 0 to 1, and together at most 1".into(),
            ));
        }
        self.random = random;
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.scripted.clear();
        self.random.clear();
    }

    pub(crate) fn scripted(&self) -> &[Script<F, C>] {
        &self.scripted
    }

    pub(crate) fn random(&self) -> &[RandomFault<F, C>] {
        &self.random
    }

    /// What happens to this call. Uses up scripted faults and throws the dice once when there are random ones.
    pub(crate) fn pick(&mut self, account: Option<&str>, call: C, body: &str) -> Option<F> {
        self.pick_scripted(account, call, body)
            .or_else(|| self.pick_random(call))
    }

    fn pick_scripted(&mut self, account: Option<&str>, call: C, body: &str) -> Option<F> {
        let matching = self
            .scripted
            .iter_mut()
            .enumerate()
            .filter(|(_, script)| script.scripted.matches(account, call, body));
        for (at, script) in matching {
            script.matched = script.matched.saturating_add(1);
            if script.matched < script.scripted.nth {
                continue;
            }
            script.happened = script.happened.saturating_add(1);
            let fault = script.scripted.fault.clone();
            if script.happened == script.scripted.times {
                self.scripted.remove(at);
            }
            return Some(fault);
        }
        None
    }

    fn pick_random(&mut self, call: C) -> Option<F> {
        if self.random.is_empty() {
            return None;
        }
        let thrown: f64 = self.dice.random();
        let mut reached = 0.0;
        for entry in self
            .random
            .iter()
            .filter(|entry| entry.call.is_none_or(|wanted| wanted == call))
        {
            reached += entry.rate;
            if thrown < reached {
                let mut fault = entry.fault.clone();
                if let (true, Some(delay)) = (entry.vary, fault.delay()) {
                    *delay = self.dice.random_range(0..=*delay);
                }
                return Some(fault);
            }
        }
        None
    }
}
