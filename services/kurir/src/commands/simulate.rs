//! `kurir simulate`: stand-ins for partner systems, for trying Kurir out and for tests of other programs. Which there are
//! is the simulators' list.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use simulators::{Kind, Preset, Running, Start};
use tokio::net::TcpListener;

use crate::exit::{Done, Exit, Failed};
use crate::output::Output;

#[derive(Debug, Args)]
#[command(after_help = help())]
pub(crate) struct Simulate {
    /// The system; it answers as the real one does, faults included
    #[arg(value_parser = names())]
    name: String,
    #[arg(long, help = port_help())]
    port: Option<u16>,
    /// Another address to listen on
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "port")]
    listen: Option<SocketAddr>,
    /// How the contract's open questions are answered
    #[arg(long, default_value = "kind")]
    readings: Readings,
    /// Refuses requests that the contract does not allow, instead of guessing as the real one does
    #[arg(long)]
    strict: bool,
    /// Options as a JSON file: accounts, readings, random faults, seed, what is stored
    #[arg(long, value_name = "FILE", conflicts_with_all = ["readings", "strict"])]
    options: Option<PathBuf>,
    /// Keeps what is stored in this file, and goes on from it at the next start
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Readings {
    Kind,
    Nasty,
}

impl From<Readings> for Preset {
    fn from(readings: Readings) -> Self {
        match readings {
            Readings::Kind => Self::Kind,
            Readings::Nasty => Self::Nasty,
        }
    }
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(simulators::ALL.iter().map(|kind| kind.name))
}

fn port_help() -> String {
    let ports: Vec<String> = simulators::ALL
        .iter()
        .map(|kind| format!("{} for {}", kind.port, kind.name))
        .collect();
    format!("0 takes any free port [default: {}]", ports.join(", "))
}

/// What it does, and how each is connected to.
fn help() -> String {
    let mut text = "\
Prints its address, then runs until Ctrl-C. `/_sim/` at that address sets faults and shows what was called.

Example:"
        .to_owned();
    for Kind {
        name,
        port,
        root,
        credentials,
        ..
    } in simulators::ALL
    {
        let _ = write!(
            text,
            "
  kurir simulate {name} --port {port}
  printf '{credentials}' |
    kurir connection add --tenant acme --system {name} --url http://127.0.0.1:{port}{root}
  (connections to 127.x need KURIR_{}__ALLOW_PRIVATE_ADDRESSES=true)",
            name.to_uppercase()
        );
    }
    text
}

pub(crate) async fn run(given: Simulate) -> Done {
    let kind = kind(&given.name)?;
    let start = start(&given)?;
    let address = given.listen.unwrap_or_else(|| {
        SocketAddr::from((Ipv4Addr::LOCALHOST, given.port.unwrap_or(kind.port)))
    });
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failed::new(
            Exit::Unavailable,
            format!("cannot listen on {address}: {error}"),
        )
        .next("--port 0 takes any free port")
    })?;
    let shutdown = runtime::signals::shutdown()?;
    let simulator = (kind.start)(start, listener).map_err(|error| {
        let refused = match (&error, &given.options) {
            (simulators::Error::Invalid(why), Some(path)) => format!("{}: {why}", path.display()),
            _ => error.to_string(),
        };
        Failed::new(Exit::Refused, refused)
    })?;
    given.output.show(&as_json(kind, simulator.as_ref()), |_| {
        render(kind, simulator.as_ref())
    })?;
    shutdown.cancelled().await;
    simulator.stop().await;
    Ok(())
}

fn kind(name: &str) -> Done<&'static Kind> {
    simulators::ALL
        .iter()
        .find(|kind| kind.name == name)
        .ok_or_else(|| Failed::new(Exit::Usage, format!("nothing simulates {name}")))
}

fn start(given: &Simulate) -> Done<Start> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path)
            .map_err(|error| Failed::new(Exit::Refused, format!("{}: {error}", path.display())))
    };
    Ok(Start {
        readings: given.readings.into(),
        strict: given.strict,
        options: given.options.as_ref().map(read).transpose()?,
        state: given.state.clone(),
    })
}

fn as_json(kind: &Kind, simulator: &dyn Running) -> Value {
    let mut as_json = json!({
        "url": simulator.base_url(),
        "control": simulator.control_url(),
        "went_on": simulator.went_on(),
    });
    as_json[kind.accounts] = json!(simulator.accounts());
    as_json
}

fn render(kind: &Kind, simulator: &dyn Running) -> String {
    let state = match simulator.went_on() {
        None => "",
        Some(true) => "\nit goes on from its state file",
        Some(false) => "\nit begins empty: there was no state file",
    };
    format!(
        "{} simulator at {}\ncontrol at {}\n{}: {}{state}",
        kind.title,
        simulator.base_url(),
        simulator.control_url(),
        kind.accounts,
        simulator.accounts().join(", ")
    )
}
