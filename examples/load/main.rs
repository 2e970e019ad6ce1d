//! Load that anyone can run, and that stops by itself: `cargo run --release --example load -- [SCENARIO…] [--short]`
//!
//! Everything happens on loopback, against a hub of its own: `$HUBWARD`, or the one beside this program, which is
//! built first. Each scenario prints its figures, and what had to hold; the last line is "N passed, N failed".

mod asker;
mod client;
mod hub;
mod others;
mod parked;
mod scenarios;
mod siege;
mod watched;

use std::{env, process::ExitCode, time::Instant};

use scenarios::SCENARIOS;

/// What had to hold, and did or did not.
#[derive(Default)]
pub struct Report {
    scenario: &'static str,
    passed: usize,
    failed: usize,
}

impl Report {
    /// Something that has to hold.
    pub fn holds(&mut self, what: &str, so: bool, seen: impl std::fmt::Display) {
        let word = if so { "ok" } else { "FAIL" };
        println!("{word} {} {what}: {seen}", self.scenario);
        *(if so { &mut self.passed } else { &mut self.failed }) += 1;
    }

    /// A figure of this machine, at this moment.
    pub fn figure(&self, what: &str, value: impl std::fmt::Display) {
        println!("   {} {what}: {value}", self.scenario);
    }
}

fn main() -> ExitCode {
    let mut short = false;
    let mut wanted = Vec::new();
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "--short" => short = true,
            "all" => {}
            "asker" => {
                asker::serve();
                return ExitCode::SUCCESS;
            }
            name if SCENARIOS.iter().any(|(known, ..)| *known == name) => wanted.push(argument),
            _ => {
                println!("load [SCENARIO…] [--short]; without one, all of them:");
                SCENARIOS.iter().for_each(|(name, what, _)| println!("  {name:<14}{what}"));
                return ExitCode::from(2);
            }
        }
    }
    if let Err(error) = hub::build() {
        eprintln!("load: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut report = Report::default();
    for (name, _, run) in SCENARIOS {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("== {name}");
        report.scenario = name;
        let began = Instant::now();
        runtime.block_on(run(&mut report, short));
        report.figure("took", format!("{:.1} s", began.elapsed().as_secs_f64()));
    }
    println!("{} passed, {} failed", report.passed, report.failed);
    if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
