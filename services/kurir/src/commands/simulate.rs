//! `kurir simulate`: stand-ins for partner systems, for trying Kurir out and for tests of other programs.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;
use simulators::metakocka::{Options, Readings, Simulator};
use tokio::net::TcpListener;

use crate::cli::{self, Simulate, SimulateMetakocka};
use crate::exit::{Done, Exit, Failed};

pub(crate) async fn run(command: Simulate) -> Done {
    let Simulate::Metakocka(given) = command;
    let mut options = options(&given)?;
    if given.state.is_some() {
        options.state.clone_from(&given.state);
    }
    let companies: Vec<String> = options
        .companies
        .iter()
        .map(|company| company.company_id.clone())
        .collect();
    let address = given
        .listen
        .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, given.port)));
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failed::new(
            Exit::Unavailable,
            format!("cannot listen on {address}: {error}"),
        )
        .next("--port 0 takes any free port")
    })?;
    let shutdown = runtime::signals::shutdown()?;
    let simulator = Simulator::start_on(options, listener)
        .map_err(|error| Failed::new(Exit::Refused, error.to_string()))?;
    let went_on = given.state.is_some().then(|| simulator.went_on());
    let told = json!({ "url": simulator.base_url(), "control": simulator.control_url(), "companies": companies, "went_on": went_on });
    given.output.show(&told, |_| {
        let companies = companies.join(", ");
        let state = match went_on {
            None => "",
            Some(true) => "\nit goes on from its state file",
            Some(false) => "\nit begins empty: there was no state file",
        };
        format!(
            "Metakocka simulator at {}\ncontrol at {}\ncompanies: {companies}{state}",
            simulator.base_url(),
            simulator.control_url()
        )
    })?;
    shutdown.cancelled().await;
    simulator.stop().await;
    Ok(())
}

fn options(given: &SimulateMetakocka) -> Done<Options> {
    let Some(path) = &given.options else {
        let readings = match given.readings {
            cli::Readings::Kind => Readings::kind(),
            cli::Readings::Nasty => Readings::nasty(),
        };
        return Ok(Options {
            readings,
            strict: given.strict,
            ..Options::default()
        });
    };
    let refused = |why: String| Failed::new(Exit::Refused, format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| refused(error.to_string()))
}
