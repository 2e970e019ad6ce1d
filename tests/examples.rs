//! The examples of the library, run: each shows what docs/library.md says of it, and ends by itself.

use std::{
    env,
    io::Read,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Once,
    time::{Duration, Instant},
};

/// Longest wait for the end of one.
const PATIENCE: Duration = Duration::from_secs(60);

/// The example, as new as its sources: cargo builds it by itself in a plain `cargo test` only.
fn built() -> PathBuf {
    static BUILT: Once = Once::new();
    let this = env::current_exe().unwrap();
    let profile = this.ancestors().nth(2).unwrap();
    BUILT.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example=embed", "--target-dir"]).arg(profile.parent().unwrap());
        cargo.args(profile.ends_with("release").then_some("--release"));
        assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    });
    profile.join(format!("examples/embed{}", env::consts::EXE_SUFFIX))
}

/// What one prints. It has to end well, and in time.
fn run(name: &str) -> String {
    let mut example = Command::new(built())
        .arg(name)
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .env_remove("all_proxy")
        .env_remove("ALL_PROXY")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = example.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut all = String::new();
        printed.read_to_string(&mut all).unwrap();
        all
    });
    let began = Instant::now();
    let status = loop {
        if let Some(status) = example.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > PATIENCE {
            let _ = example.kill();
            panic!("{name} has not ended within {PATIENCE:?}: {}", reader.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let printed = reader.join().unwrap();
    assert!(status.success(), "{name} ended with {status}: {printed}");
    printed
}

#[test]
fn s4_65_s4_66_s1_47_a_hub_is_served_from_code() {
    let printed = run("serve_http");
    let mut lines = printed.lines();
    assert_eq!(lines.next(), Some("the server said HELLO"));
    assert_eq!(lines.next(), Some("the hub has ended"));
    assert!(lines.next().unwrap().starts_with("refused: 0.0.0.0:"), "{printed}");
}

#[test]
fn s1_48_s4_34_a_hub_is_mounted_beside_the_apps_own_routes() {
    let lines = "/own: a page of the app\n/within/mcp without a token: 401 Unauthorized\n/within/mcp: MOUNTED\nended\n";
    assert_eq!(run("mount"), lines);
}

#[test]
fn s4_68_s4_69_s4_70_hooks_say_who_comes_who_it_is_and_what_else_is_there() {
    let lines = "ada came to within with Some(\"example\")\n\
        ada: HELLO\n\
        eve: 402 Payment Required Some(\"nobody knows you\")\n\
        nobody: 401 Unauthorized\n\
        /hello: 200\n/broken: 500\n/panic: 500\n/nothing: 404\n\
        ada went, and it is the same: true; Some(\"its session was deleted\")\n\
        ada came\n\
        ada went; Some(\"the hub is shutting down\")\n";
    assert_eq!(run("hooks"), lines);
}

#[test]
fn s4_74_clients_are_told_of_changes_by_the_program() {
    let lines = "nobody is there: 0 told\n\
        lists: [1, 1, 1] told\nfile:///b: 0 told\nfile:///a: 1 told\n\
        heard {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\
        heard {\"jsonrpc\":\"2.0\",\"method\":\"notifications/prompts/list_changed\"}\n\
        heard {\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/list_changed\"}\n\
        heard {\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{\"uri\":\"file:///a\"}}\n\
        nobody's: true\n";
    assert_eq!(run("notify"), lines);
}

#[test]
fn s4_67_events_are_kept_by_the_program() {
    let printed = run("event_store");
    let (first, rest) = printed.split_once('\n').unwrap();
    assert!(first.starts_with("heard up to 0-"), "{printed}");
    assert_eq!(rest, "kept: true\nresumed: false\nforged: 400\nleft behind: 0\n");
}

#[test]
fn s4_78_a_server_elsewhere_is_served_on_a_link() {
    let printed = run("serve_stdio");
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0].contains("\"id\":\"a\"") && lines[0].contains("\"name\":\"within\""), "{printed}");
    assert!(lines[1].contains("\"id\":\"b\"") && lines[1].contains("FAR"), "{printed}");
    assert_eq!(lines[2], "ended");
    assert!(lines[3].starts_with("refused: one upstream"), "{printed}");
}

#[test]
fn s4_76_s4_79_links_are_put_together_and_looked_on_at() {
    let lines = "the client got {\"jsonrpc\":\"2.0\",\"id\":\"mine\",\"result\":{}}\n\
        > {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\
        < {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\
        we have ended\n\
        the child said notifications/x\n";
    let printed = run("links");
    assert!(printed.starts_with(lines), "{printed}");
    assert!(printed.lines().count() == 6 && printed.contains("\nthe child "), "{printed}");
}

#[test]
fn s4_66_a_server_of_the_rust_sdk_is_an_upstream_within_the_program() {
    assert_eq!(run("rust_sdk"), "20 + 22 = 42\n");
}

/// The page names each program, and each program is on the page.
#[test]
fn docs_library_names_every_program() {
    const PAGE: &str = include_str!("../docs/library.md");
    let main = include_str!("../examples/embed/main.rs");
    let names: Vec<&str> = main
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" =>"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names.len(), 8);
    for name in names {
        assert!(PAGE.contains(&format!("(../examples/embed/{name}.rs)")), "{name} is not on the page");
    }
}
