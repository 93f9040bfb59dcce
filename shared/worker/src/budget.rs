//! What a partner allows one connection, as numbers. The permits themselves are in `permit_pool`, the fleet-wide account in the
//! store.

mod ask;
mod circuit;
mod permit_pool;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::{Value, json};

pub use ask::{Answer, Ask, CircuitAnswer, CircuitNews, CoolNews};
pub use permit_pool::{
    Admission, Admitted, CallPermit, NoRoom, Observation, PermitPool, RefillQueue, Signals,
    admitted,
};

/// Most windows of one budget.
pub const WINDOWS_LIMIT: usize = 4;
/// Longest window: a day.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// How long a permit may lie in a process before it is used; shorter for short windows.
const LIFE: Duration = Duration::from_secs(1);
/// How often a process that lacks permits asks for more; a burst must last until it has them.
const ROUND: Duration = Duration::from_millis(500);
/// A first event needs a look-up or two, a write and perhaps a look at it.
const SMALLEST_BURST: f64 = 5.0;

/// So many requests in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub requests: u32,
    pub per: Duration,
    /// `None`: in no span of `per`, wherever it begins, are there more than `requests`. `Some`: `requests` per `per` on
    /// average, and at most so many at once besides.
    pub burst: Option<u32>,
}

/// What one connection may do, all replicas together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetSpec {
    /// All of them hold at once; none: no limit over time.
    pub windows: Vec<Window>,
    /// Calls at once; at least 1.
    pub in_flight: u32,
    /// Of these, calls at once of the kind that the partner handles one after another.
    pub searches: u32,
}

impl BudgetSpec {
    /// So many calls at once, of whichever kind, and no limit over time.
    pub fn in_flight(calls: u32) -> Self {
        Self {
            windows: Vec::new(),
            in_flight: calls,
            searches: calls,
        }
    }
}

/// A window as a token bucket: a permit comes back every `gap`, and at most `burst` lie there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub per: Duration,
    pub gap: Duration,
    pub burst: u32,
    /// A leased permit is void after this.
    pub life: Duration,
}

impl Window {
    /// Calls of any span T are at most the permits leased in T plus `life`, and those at most `burst` plus what comes back
    /// in that time. For a window without a burst of its own that sum is kept at `requests` over `per`; what this costs
    /// is 2 to 4 % of the budget for a minute, more for shorter windows and smaller budgets.
    pub fn bucket(&self) -> Bucket {
        let per = self.per.as_secs_f64().max(0.001);
        let requests = f64::from(self.requests.max(1));
        let (burst, rate, life) = match self.burst {
            Some(burst) => {
                let (burst, rate) = (f64::from(burst), requests / per);
                let life = (burst / rate / 2.0).clamp(0.05, LIFE.as_secs_f64());
                ((burst - rate * life).round().max(1.0), rate, life)
            }
            None => {
                let life = LIFE.as_secs_f64().min(per / 20.0);
                let wanted = SMALLEST_BURST
                    .max(requests * 0.02)
                    .max(requests / per * ROUND.as_secs_f64());
                let burst = wanted.min(requests / 2.0).ceil().max(1.0);
                let rate = ((requests - burst) / (per + life)).max(0.5 / per);
                (burst, rate, life)
            }
        };
        Bucket {
            per: self.per,
            gap: Duration::from_secs_f64(1.0 / rate),
            burst: burst as u32,
            life: Duration::from_secs_f64(life),
        }
    }
}

impl BudgetSpec {
    /// A connection's own budget, else `default`. Members of `budget` in the settings of a connection: `windows` (a list
    /// of `{"requests", "seconds", "burst"?}`), `in_flight`, `searches`; what is missing is the default's.
    ///
    /// # Errors
    /// Names the member that is wrong.
    pub fn of(settings: &Value, default: &Self) -> Result<Self, String> {
        let mut spec = default.clone();
        let Some(budget) = settings.get("budget") else {
            return Ok(spec);
        };
        let members = budget
            .as_object()
            .ok_or("`budget` must be an object with windows, in_flight, searches")?;
        for (name, value) in members {
            match name.as_str() {
                "windows" => spec.windows = windows(value)?,
                "in_flight" => spec.in_flight = whole("budget.in_flight", value, 1, 1000)?,
                "searches" => spec.searches = whole("budget.searches", value, 1, 1000)?,
                other => return Err(format!("`budget.{other}` is not known")),
            }
        }
        spec.searches = spec.searches.min(spec.in_flight);
        Ok(spec)
    }

    pub fn buckets(&self) -> Vec<Bucket> {
        self.windows.iter().map(Window::bucket).collect()
    }

    /// As it stands in a connection's settings.
    pub fn to_json(&self) -> Value {
        let windows: Vec<Value> = self
            .windows
            .iter()
            .map(|window| {
                let mut members =
                    json!({ "requests": window.requests, "seconds": window.per.as_secs_f64() });
                if let Some(burst) = window.burst {
                    members["burst"] = json!(burst);
                }
                members
            })
            .collect();
        json!({ "windows": windows, "in_flight": self.in_flight, "searches": self.searches })
    }
}

fn windows(value: &Value) -> Result<Vec<Window>, String> {
    let list = value
        .as_array()
        .ok_or("`budget.windows` must be a list of {\"requests\", \"seconds\"}")?;
    if list.len() > WINDOWS_LIMIT {
        return Err(format!(
            "`budget.windows` has more than {WINDOWS_LIMIT} members"
        ));
    }
    list.iter().enumerate().map(window).collect()
}

fn window((at, value): (usize, &Value)) -> Result<Window, String> {
    let name = |member: &str| format!("budget.windows[{at}].{member}");
    let members = value
        .as_object()
        .ok_or_else(|| format!("`budget.windows[{at}]` must be an object"))?;
    if let Some(unknown) = members
        .keys()
        .find(|member| !["requests", "seconds", "burst"].contains(&member.as_str()))
    {
        return Err(format!("`{}` is not known", name(unknown)));
    }
    let member = |what: &str| members.get(what).unwrap_or(&Value::Null);
    let longest = u32::try_from(LONGEST_WINDOW.as_secs()).unwrap_or(u32::MAX);
    Ok(Window {
        requests: whole(&name("requests"), member("requests"), 1, 10_000_000)?,
        per: Duration::from_secs(u64::from(whole(
            &name("seconds"),
            member("seconds"),
            1,
            longest,
        )?)),
        burst: match members.get("burst") {
            None => None,
            Some(burst) => Some(whole(&name("burst"), burst, 1, 1_000_000)?),
        },
    })
}

fn whole(name: &str, value: &Value, least: u32, most: u32) -> Result<u32, String> {
    value
        .as_u64()
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("`{name}` must be a whole number from {least} to {most}"))
}
