//! The README's commands, one after the other, as a reader would type them.

use reqwest::Method;
use serde_json::Value;
use simulators::metakocka::{ClockKind, Options};

use crate::caller::{Caller, PATIENCE, http_client};

/// One line `curl …`, as far as the README uses it.
#[derive(Debug)]
struct Command {
    method: Method,
    url: String,
    body: Option<String>,
}

/// Splits a line into words as a shell does, without the comment.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (None, '#') => break,
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            (None, ' ') => words.push(String::new()),
            (_, letter) => words.last_mut().unwrap().push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn parse(line: &str) -> Command {
    let mut command = Command {
        method: Method::GET,
        url: String::new(),
        body: None,
    };
    let mut words = words(line)
        .into_iter()
        .skip(1)
        .take_while(|word| word != ">");
    let mut method = None;
    while let Some(word) = words.next() {
        match word.as_str() {
            "-s" => {}
            "-X" => method = Some(words.next().unwrap().parse().unwrap()),
            "-d" => command.body = words.next(),
            url => command.url = url.to_owned(),
        }
    }
    let implied = if command.body.is_some() {
        Method::POST
    } else {
        Method::GET
    };
    command.method = method.unwrap_or(implied);
    command
}

#[tokio::test]
async fn every_command_of_the_readme_works() {
    let clock = ClockKind::Manual("2026-01-15T09:00:00Z".parse().unwrap());
    let caller = Caller::open(Options {
        clock,
        ..Options::default()
    })
    .await;
    let calls = caller.simulator.base_url();
    let control = caller.simulator.control_url();
    let mut saved = String::new();
    let mut ran = 0;
    for line in include_str!("../../README.md")
        .lines()
        .filter(|line| line.starts_with("curl "))
    {
        let mut command = parse(line);
        command.url = command
            .url
            .replace("$M", calls.trim_end_matches('/'))
            .replace("$S", control.trim_end_matches('/'));
        if command.body.as_deref() == Some("@state.json") {
            command.body = Some(saved.clone());
        }
        let run = async {
            loop {
                let request = http_client().request(command.method.clone(), &command.url);
                let request = command
                    .body
                    .iter()
                    .fold(request, |request, body| request.body(body.clone()));
                // Refused during the outage that the README shows.
                if let Ok(response) = request.send().await {
                    return response;
                }
            }
        };
        let response = tokio::time::timeout(PATIENCE, run).await.expect(line);
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, 200, "{line}\n{text}");
        let answer: Value = serde_json::from_str(&text).expect(line);
        assert_eq!(answer.get("opr_code"), None, "{line}\n{text}");
        if line.contains("> state.json") {
            saved = text;
        }
        ran += 1;
    }
    assert!(ran > 25, "{ran} commands");
}
