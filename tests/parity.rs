//! docs/parity.md, held against the sources: no row is missing, every test it names is one, and every row is answered.

use std::{collections::BTreeSet, fs, path::Path};

const PAGE: &str = include_str!("../docs/parity.md");

/// The rows: how many there are of each system, numbered from 1.
const ROWS: [(&str, usize); 5] = [("S1.", 65), ("S2.", 59), ("S3.", 67), ("S4.", 84), ("S4.T", 13)];

/// The columns of each row.
fn rows() -> Vec<Vec<String>> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let rows = rows.filter(|row| row.starts_with(" S")).map(|row| row.replace("\\|", "/"));
    rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The names of all tests, of the product and beside it.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut folders) = (BTreeSet::new(), ["src", "tests"].map(|folder| root.join(folder)).to_vec());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("external") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                // What follows the attribute, whatever other attributes stand between.
                let marks = ["#[test]", "#[tokio::test", "#[actix_web::test", "#[actix::test"];
                let after = marks.iter().flat_map(|mark| text.split(mark).skip(1));
                let names = after.filter_map(|rest| rest.split_once("fn ")?.1.split('(').next());
                found.extend(names.map(str::to_owned));
            }
        }
    }
    found
}

#[test]
fn no_row_is_missing_and_none_is_there_twice() {
    let wanted: Vec<String> =
        ROWS.iter().flat_map(|(of, count)| (1..=*count).map(move |n| format!("{of}{n}"))).collect();
    let there: Vec<String> = rows().iter().map(|row| row[0].clone()).collect();
    assert_eq!(there, wanted);
}

#[test]
fn each_row_has_a_test_or_an_answer_and_every_test_exists() {
    let tests = tests();
    assert!(tests.len() > 500, "only {} tests were found", tests.len());
    let mut found = Vec::new();
    for row in rows() {
        let [id, what, named, answer] = &row[..] else { panic!("{row:?} has not four columns") };
        let named: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        let missing = named.iter().filter(|name| !tests.contains(**name));
        found.extend(missing.map(|name| format!("{id}: there is no test {name}")));
        if what.is_empty() || (named.is_empty() && answer.is_empty()) || (*answer == "open" && !named.is_empty()) {
            found.push(format!("{id}: a title, and a test or an answer are needed; what has a test is not open"));
        }
    }
    assert!(found.is_empty(), "\n  {}", found.join("\n  "));
}

/// A test that bears a row in its name is one of those that show it.
#[test]
fn a_test_named_after_a_row_is_in_its_row() {
    let mut found = Vec::new();
    for test in tests() {
        let parts: Vec<&str> = test.split('_').collect();
        let pairs = parts.windows(2).take_while(|pair| is_row(pair) || pair[0].parse::<u32>().is_ok());
        for pair in pairs.filter(|pair| is_row(pair)) {
            let id = format!("{}.{}", pair[0].to_uppercase(), pair[1].to_uppercase());
            let named = rows().iter().any(|row| row[0] == id && row[2].contains(&format!("`{test}`")));
            if !named {
                found.push(format!("{id}: {test} is not in its row"));
            }
        }
    }
    assert!(found.is_empty(), "\n  {}", found.join("\n  "));
}

/// `s4` and `29`, or `s4` and `t3`.
fn is_row(pair: &[&str]) -> bool {
    matches!(pair[0], "s1" | "s2" | "s3" | "s4") && pair[1].trim_start_matches('t').parse::<u32>().is_ok()
}

#[test]
fn every_row_is_answered() {
    let unanswered = |row: &Vec<String>| row[3] == "open" || (row[2].is_empty() && row[3].is_empty());
    let found: Vec<String> = rows().into_iter().filter(unanswered).map(|row| row[0].clone()).collect();
    assert!(found.is_empty(), "{found:?}");
}
