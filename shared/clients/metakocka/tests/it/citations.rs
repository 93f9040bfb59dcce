//! What comments and pages cite stands in this repository: sections of docs/partners/metakocka.md ("contract §n"), numbered
//! schedules, oracles and windows of docs/tests.md, other pages and decisions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Papers that only their authors have.
const ELSEWHERE: [&str; 10] = [
    "DESIGN",
    "design §",
    "REQUIREMENTS",
    "elivery-model",
    "elivery model",
    "many-links",
    "research/",
    "esearch fact",
    "contracts/",
    "exemplars.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Path and text of every file of the repository but this one, and of what others wrote.
fn files() -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    let paths = String::from_utf8(listed.stdout).unwrap();
    let others = ["Cargo.lock", "docs/LICENSE"];
    let files: Vec<_> = paths
        .lines()
        .filter(|path| !others.contains(path) && !path.ends_with("/citations.rs"))
        .filter_map(|path| {
            let text = std::fs::read_to_string(root().join(path)).ok()?;
            Some((path.to_owned(), text))
        })
        .collect();
    assert!(files.len() > 300, "only {} files", files.len());
    files
}

/// Everything in `files` that `cited` finds in a line and `known` doesn't know, with its place.
fn astray<'a>(
    files: &'a [(String, String)],
    cited: impl Fn(&'a str) -> Vec<&'a str>,
    known: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut astray = Vec::new();
    for (path, text) in files {
        for (line, content) in text.lines().enumerate() {
            let unknown = cited(content).into_iter().filter(|cited| !known(cited));
            astray.extend(unknown.map(|cited| format!("{path}:{}: {cited}", line + 1)));
        }
    }
    astray
}

/// `§1.3, 1.8` are two sections.
fn sections(line: &str) -> Vec<&str> {
    let mut cited = Vec::new();
    for rest in line.split('§').skip(1) {
        let mut next = Some(rest.trim_start());
        while let Some(rest) = next {
            let end = rest.find(|sign: char| !sign.is_ascii_digit() && sign != '.');
            let number = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
            cited.extend((!number.is_empty()).then_some(number));
            next = rest[number.len()..].strip_prefix(", ");
        }
    }
    cited
}

/// `V27` and its like, in a comment.
fn schedules(line: &str) -> Vec<&str> {
    let Some((_, comment)) = line.split_once("//") else {
        return Vec::new();
    };
    let numbered = |word: &&str| {
        word.strip_prefix(['V', 'I', 'R', 'W']).is_some_and(|rest| {
            (1..=2).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    words(comment).filter(numbered).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|sign: char| !sign.is_alphanumeric())
}

/// `docs/holds.md`, `docs/decisions/0002` and `decision 0002`, the latter two by their number.
fn pages(line: &str) -> Vec<&str> {
    let mut cited = Vec::new();
    for (at, _) in line.match_indices("docs/") {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|sign| sign.is_alphanumeric() || "/.-_".contains(sign)) {
            continue;
        }
        let end = line[at..].find(|sign: char| !sign.is_alphanumeric() && !"/.-_".contains(sign));
        let path = &line[at..end.map_or(line.len(), |end| at + end)];
        if path.ends_with(".md") {
            cited.push(path);
        } else if let Some(decision) = path.strip_prefix("docs/decisions/") {
            cited.extend(number(decision));
        }
    }
    for (_, rest) in line
        .match_indices("decision ")
        .map(|(at, word)| line.split_at(at + word.len()))
    {
        cited.extend(number(rest));
    }
    cited
}

fn number(text: &str) -> Option<&str> {
    let number = text.get(..4)?;
    number
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(number)
}

#[test]
fn every_cited_section_stands_on_the_partners_page() {
    let page = page("docs/partners/metakocka.md");
    let headings: Vec<&str> = page
        .lines()
        .filter_map(|line| {
            line.trim_start_matches('#')
                .strip_prefix(' ')?
                .split(' ')
                .next()
        })
        .filter(|word| word.starts_with(|sign: char| sign.is_ascii_digit()))
        .collect();
    let known = BTreeSet::from_iter(&headings);
    assert_eq!(known.len(), headings.len(), "a number twice: {headings:?}");
    let files = files();
    let cited = files.iter().flat_map(|(_, text)| sections(text)).count();
    assert!(cited > 100, "only {cited} citations: are they found?");
    let astray = astray(&files, sections, |number| known.contains(&number));
    assert!(astray.is_empty(), "no such section:\n{}", astray.join("\n"));
}

#[test]
fn every_numbered_schedule_stands_in_the_page_of_tests() {
    let page = page("docs/tests.md");
    let known = BTreeSet::from_iter(words(&page));
    let mut files = files();
    files.retain(|(path, _)| path.ends_with(".rs"));
    let astray = astray(&files, schedules, |number| known.contains(number));
    assert!(
        astray.is_empty(),
        "not in docs/tests.md:\n{}",
        astray.join("\n")
    );
}

#[test]
fn every_cited_page_and_decision_is_there() {
    let decisions = std::fs::read_dir(root().join("docs/decisions")).unwrap();
    let decisions: Vec<String> = decisions
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let known = |cited: &str| match number(cited) {
        Some(number) => decisions.iter().any(|name| name.starts_with(number)),
        None => root().join(cited).exists(),
    };
    let astray = astray(&files(), pages, known);
    assert!(astray.is_empty(), "not there:\n{}", astray.join("\n"));
}

#[test]
fn nothing_cites_a_paper_that_readers_do_not_have() {
    let cites = |text: &str| ELSEWHERE.iter().any(|paper| text.contains(paper));
    let mut files = files();
    files.retain(|(_, text)| cites(text));
    let whole = |line| Vec::from([line]);
    let astray = astray(&files, whole, |line| !cites(line));
    assert!(
        astray.is_empty(),
        "say it here, or cite a page of docs/:\n{}",
        astray.join("\n")
    );
}

#[test]
fn citations_are_read_as_they_are_written() {
    assert_eq!(
        sections("(contract §1.3, 1.8) and §12."),
        ["1.3", "1.8", "12"]
    );
    assert_eq!(sections("(§1.5, §8 step 6), 3; \"§n\""), ["1.5", "8"]);
    assert_eq!(
        schedules("/// V28–V31, R1; IPv4, V128"),
        ["V28", "V31", "R1"]
    );
    assert_eq!(schedules("IpAddr::V4(address)"), [""; 0]);
    assert_eq!(
        pages(
            "docs/holds.md, (docs/decisions/0002). decision 0014 ../docs/x.md https://a/docs/b.md"
        ),
        ["docs/holds.md", "0002", "0014"]
    );
}
