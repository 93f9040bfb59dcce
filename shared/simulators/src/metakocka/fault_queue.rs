//! Which fault a call meets: the scripted ones in their order, then the dice.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::Error;
use super::core::Request;
use super::fault::{Fault, RandomFault, ScriptedFault};

/// Most scripted faults that may wait.
const MAX_SCRIPTED: usize = 10_000;

/// The queue of scripted faults and the dice.
#[derive(Debug)]
pub(super) struct Faults {
    scripted: Vec<Script>,
    next_id: u64,
    random: Vec<RandomFault>,
    dice: StdRng,
}

/// A scripted fault and how far it is.
#[derive(Clone, Debug, Serialize)]
pub struct Script {
    pub id: u64,
    #[serde(flatten)]
    pub scripted: ScriptedFault,
    /// Calls it matched while it was the first in the queue to do so.
    pub matched: u32,
    pub happened: u32,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Faults {
            scripted: Vec::new(),
            next_id: 1,
            random: Vec::new(),
            dice: StdRng::seed_from_u64(seed),
        }
    }

    pub(super) fn script(&mut self, scripted: ScriptedFault) -> Result<u64, Error> {
        scripted.fault.check()?;
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

    pub(super) fn set_random(&mut self, random: Vec<RandomFault>) -> Result<(), Error> {
        for entry in &random {
            entry.fault.check()?;
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

    pub(super) fn clear(&mut self) {
        self.scripted.clear();
        self.random.clear();
    }

    pub(super) fn scripted(&self) -> &[Script] {
        &self.scripted
    }

    pub(super) fn random(&self) -> &[RandomFault] {
        &self.random
    }

    /// What happens to this call. Uses up scripted faults and throws the dice once when there are random ones.
    pub(super) fn pick(&mut self, company: &str, request: &Request, body: &str) -> Option<Fault> {
        self.pick_scripted(company, request, body)
            .or_else(|| self.pick_random(request))
    }

    fn pick_scripted(&mut self, company: &str, request: &Request, body: &str) -> Option<Fault> {
        let matching = self
            .scripted
            .iter_mut()
            .enumerate()
            .filter(|(_, script)| script.scripted.matches(company, request, body));
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

    fn pick_random(&mut self, request: &Request) -> Option<Fault> {
        if self.random.is_empty() {
            return None;
        }
        let thrown: f64 = self.dice.random();
        let mut reached = 0.0;
        for entry in self
            .random
            .iter()
            .filter(|entry| entry.call.is_none_or(|call| call == request.call()))
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
