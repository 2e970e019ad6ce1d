//! What each flag and variable of the older tools comes to.

use std::{ffi::OsString, time::Duration};

use super::*;
use crate::{
    cli::{Command, parsed},
    config::{Era, Face, InheritEnv, Isolation, TunnelConfig, UpstreamConfig},
};

fn flags(line: &[&str]) -> Result<Args, clap::Error> {
    let words = ["hubward", "proxy"].iter().chain(line).map(OsString::from).collect();
    match parsed(words)?.command {
        Command::Proxy(args) => Ok(*args),
        _ => panic!("{line:?} is not the command proxy"),
    }
}

pub fn drawn(line: &[&str], variables: &[(&str, &str)]) -> Result<Draft, String> {
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let args = flags(line).map_err(|error| error.to_string())?;
    draft(&args, &environment, "/here".into())
}

/// What the command `x` comes to behind these flags, and the notes.
fn made(flags: &[&str], variables: &[(&str, &str)]) -> (Config, Vec<String>) {
    let line = [flags, &["--", "x"]].concat();
    let draft = drawn(&line, variables).unwrap_or_else(|error| panic!("{flags:?}: {error}"));
    (draft.config, draft.notes)
}

fn own(config: &Config) -> &UpstreamConfig {
    &config.upstreams[config.hub.default.as_ref().unwrap()]
}

/// The flags change this and nothing else, and there is nothing to say about it.
fn check(flags: &[&str], change: impl Fn(&mut Config)) {
    let (mut expected, _) = made(&[], &[]);
    change(&mut expected);
    let (config, notes) = made(flags, &[]);
    assert_eq!(config, expected, "{flags:?}");
    assert_eq!(notes, Vec::<String>::new(), "{flags:?}");
}

/// The same for the one server.
fn check_own(flags: &[&str], change: impl Fn(&mut UpstreamConfig)) {
    check(flags, |config| change(config.upstreams.values_mut().next().unwrap()));
}

pub const SECOND: Duration = Duration::from_secs(1);

#[test]
fn without_a_flag_it_is_an_ordinary_hub() {
    let (config, notes) = made(&[], &[]);
    assert!(notes.is_empty());
    assert_eq!(config.hub, crate::config::HubConfig { default: config.hub.default.clone(), ..Default::default() });
    assert_eq!(*own(&config), UpstreamConfig::new("x", "/here".into()));
}

#[test]
fn s1_3_s1_5_s1_7_s2_18_s2_19_s4_8_s4_9_where_to_listen_and_how_long_a_session_lasts() {
    let at = |host: &str, port| vec![Bind::tcp(host, port)];
    check(&["--host", "::1"], |config| config.hub.bind = at("::1", 8808));
    check(&["--host", "[::1]", "--port", "0"], |config| config.hub.bind = at("::1", 0));
    check(&["--port=3000"], |config| config.hub.bind = at("127.0.0.1", 3000));
    check(&["--timeout", "600"], |config| config.hub.limits.session_idle_timeout = 600 * SECOND);
    check(&["--bind", "[::1]:1", "--bind", "localhost:2"], |config| {
        config.hub.bind = [at("::1", 1), at("localhost", 2)].concat()
    });
    assert!(drawn(&["--bind", "[::1]:1", "--port", "2", "x"], &[]).is_err());
    for wrong in [["--port", "65536"], ["--port", "-1"], ["--timeout", "0"], ["--timeout", "x"]] {
        assert!(flags(&[wrong.as_slice(), &["--", "x"]].concat()).is_err(), "{wrong:?}");
    }
}

#[test]
fn s2_20_the_older_names_of_host_and_port_have_their_effect() {
    check(&["--sse-port=8080", "--sse-host=localhost"], |config| config.hub.bind = vec![Bind::tcp("localhost", 8080)]);
    check(&["--port=1", "--sse-port", "2"], |config| config.hub.bind = vec![Bind::tcp("127.0.0.1", 2)]);
}

#[test]
fn s1_15_variables_that_only_a_document_knew_are_obeyed() {
    let variables = [
        ("MCP_SUBPROCESS_TIMEOUT", "30"),
        ("MCP_STARTUP_TIMEOUT", "10"),
        ("MCP_MAX_SESSIONS", "100"),
        ("MCP_READ_BUFFER_SIZE", "65536"),
        ("MCP_WRITE_BUFFER_SIZE", "65536"),
        ("MCP_PROXY_TIMEOUT", "60"),
        ("MCP_PROXY_HOST", "localhost"),
        ("MCP_PROXY_PORT", "1234"),
    ];
    let (config, notes) = made(&[], &variables);
    assert_eq!((own(&config).request_timeout, own(&config).start_timeout), (30 * SECOND, 10 * SECOND));
    assert_eq!(config.hub.limits.sessions_max, 100);
    assert_eq!(config.hub.limits.session_idle_timeout, 60 * SECOND);
    assert_eq!(config.hub.bind, [Bind::tcp("localhost", 1234)]);
    assert_eq!(notes.len(), 2, "buffers have no size: {notes:?}");
    assert_eq!(drawn(&["x"], &[("MCP_LOG_LEVEL", "WARNING")]).unwrap().level, "warn");
    assert_eq!(drawn(&["x"], &[("MCP_PROXY_LOG_LEVEL", "DEBUG")]).unwrap().level, "DEBUG");
    let kubernetes = [("MCP_PROXY_PORT", "tcp://10.0.0.1:8080")];
    assert_eq!(made(&[], &kubernetes).0.hub.bind, [Bind::tcp("127.0.0.1", 8808)]);
    for wrong in [("MCP_STARTUP_TIMEOUT", "soon"), ("MCP_MAX_SESSIONS", "0"), ("MCP_PROXY_PORT", "web")] {
        let error = drawn(&["x"], &[wrong]).err().unwrap();
        assert!(error.contains(wrong.0) && error.contains(wrong.1), "{error}");
    }
}

#[test]
fn s1_12_s1_13_s2_6_s4_1_from_its_first_word_on_all_belongs_to_the_command() {
    for line in [
        &["--port", "1", "node", "server.js", "--a", "1", "file"][..],
        &["--port", "1", "--", "node", "server.js", "--a", "1", "file"],
    ] {
        let Draft { config, notes, .. } = drawn(line, &[]).unwrap();
        assert_eq!(own(&config).command.expose(), "node");
        let args: Vec<&str> = own(&config).args.iter().map(|arg| arg.expose()).collect();
        assert_eq!(args, ["server.js", "--a", "1", "file"]);
        assert!(notes.is_empty(), "{notes:?}");
    }
    let Draft { config, notes, .. } = drawn(&["cmd", "--port", "9", "--debug=x"], &[]).unwrap();
    assert_eq!((own(&config).args.len(), &config.hub.bind), (3, &vec![Bind::tcp("127.0.0.1", 8808)]));
    assert!(notes.len() == 2 && notes[0].starts_with("--port stands behind"), "{notes:?}");
    assert!(drawn(&["--", "cmd", "--port", "9"], &[]).unwrap().notes.is_empty());
    assert!(drawn(&["cmd", "--", "--port", "9"], &[]).unwrap().notes.is_empty());
    // A flag that nobody knows is no command.
    let error = drawn(&["--prot", "1", "cmd"], &[]).err().unwrap();
    assert!(error.contains("there is no flag --prot"), "{error}");
}

#[test]
fn s2_21_s2_22_s2_23_the_environment_and_the_folder_of_the_one_server() {
    let is = |flags: &[&str]| {
        let (config, notes) = made(flags, &[]);
        assert!(notes.is_empty());
        own(&config).env.iter().map(|(name, value)| format!("{name} is {}", value.expose())).collect::<Vec<_>>()
    };
    assert_eq!(
        is(&["-e", "A", "b", "--env", "C", "d e", "-e", "F=g=h", "--env=I=j"]),
        ["A is b", "C is d e", "F is g=h", "I is j"]
    );
    assert!(drawn(&["-e", "ALONE", "--", "x"], &[]).is_err());
    check_own(&["--cwd", "sub"], |own| own.cwd = "/here/sub".into());
    check_own(&["--pass-environment"], |own| own.inherit_env = InheritEnv::All);
    check_own(&["--pass-environment", "--no-pass-environment"], |_| {});
}

#[test]
fn s4_29_the_key_is_not_handed_to_the_children() {
    let (config, _) = made(&["--pass-environment"], &[("MCP_PROXY_API_KEY", "k"), ("HOME", "/root")]);
    assert_eq!(own(&config).inherit_env, InheritEnv::Names(vec!["HOME".into()]));
}

#[test]
fn s2_24_s4_7_stateless_needs_no_process_per_session() {
    check(&["--stateless"], |config| {
        config.hub.stateless = true;
        config.upstreams.values_mut().for_each(|own| own.isolation = Isolation::Call);
    });
    check(&["--stateless", "--no-stateless"], |_| {});
    check_own(&["--isolation", "shared"], |own| own.isolation = Isolation::Shared);
}

#[test]
fn s2_25_s2_26_s4_19_what_web_pages_may() {
    let origins = |flags: &[&str]| made(flags, &[]).0.hub.allowed_origins;
    assert_eq!(
        origins(&["--allow-origin", "https://A.example", "--allow-origin=http://b:1"]),
        ["https://a.example", "http://b:1"]
    );
    assert_eq!(origins(&["--allow-origin", "http://a", "http://b", "http://a"]), ["http://a", "http://b"]);
    assert_eq!(origins(&["--allow-origin=*"]), ["any"]);
    assert_eq!(origins(&["--allow-origin", "http://a", "*"]), ["any"]);
    let (config, notes) = made(&["--allow-origin", "*", "--apiKey", "k"], &[]);
    assert!(config.hub.allowed_origins.is_empty() && notes.len() == 1, "{notes:?}");
    check(&["--expose-header", "X-A", "--expose-header", "X-B"], |config| {
        config.hub.exposed_headers = vec!["X-A".into(), "X-B".into()]
    });
    check(&["--corsAddAllowedHeader", "X-Own"], |config| config.hub.allowed_headers = vec!["X-Own".into()]);
    for wrong in [["--allow-origin", "x"], ["--expose-header", "a b"], ["--corsAddAllowedHeader", "*"]] {
        let error = drawn(&[wrong.as_slice(), &["--", "x"]].concat(), &[]).err().unwrap();
        assert!(error.contains(wrong[1]), "{error}");
    }
}

#[test]
fn s2_27_s2_28_debug_wins_over_a_level() {
    let is = |line: &[&str]| flags(&[line, &["x"]].concat()).unwrap().is_debug();
    assert!(is(&["--debug"]) && !is(&[]) && !is(&["--debug", "--no-debug"]) && is(&["--no-debug", "--debug"]));
}

#[test]
fn s4_3_s4_4_s4_5_s4_6_what_is_served_and_where() {
    let places = |flags: &[&str]| {
        let (config, notes) = made(flags, &[]);
        (config.hub.paths(None).collect::<Vec<_>>().join(" "), notes.len())
    };
    let cases: [(&[&str], &str, usize); 9] = [
        (&["--server", "sse"], "/sse", 0),
        (&["--server", "stream"], "/mcp", 0),
        (&["--server", "sse", "--endpoint", "/events"], "/events", 0),
        (&["--server", "stream", "--endpoint", "/stream"], "/stream", 0),
        (&["--server", "stream", "--endpoint", "/sse"], "/sse", 0),
        (&["--server", "stream", "--endpoint", "/a", "--streamEndpoint", "/b"], "/b", 0),
        (&["--sseEndpoint", "/events", "--stream-endpoint", "/api/mcp"], "/api/mcp /events", 0),
        (&["--streamEndpoint", "/sse", "--sseEndpoint", "/mcp"], "/sse /mcp", 0),
        // Of older documents; it means nothing, and that is said.
        (&["--endpoint", "/sse"], "/mcp /sse", 1),
    ];
    for (flags, expected, notes) in cases {
        assert_eq!(places(flags), (expected.to_owned(), notes), "{flags:?}");
    }
    assert_eq!(made(&["--server", "sse"], &[]).0.hub.transports, [Face::Sse]);
    for wrong in
        [["--streamEndpoint", "mcp"], ["--sseEndpoint", "/ping"], ["--streamEndpoint", "/sse"], ["--server", "http"]]
    {
        assert!(drawn(&[wrong.as_slice(), &["--", "x"]].concat(), &[]).is_err(), "{wrong:?}");
    }
}

#[test]
fn s4_10_to_s4_20_limits_in_milliseconds() {
    check_own(&["--connectionTimeout", "1000"], |own| own.start_timeout = SECOND);
    check_own(&["--requestTimeout", "1500"], |own| own.request_timeout = Duration::from_millis(1500));
    check(&["--keepAliveTimeout", "1000"], |config| config.hub.keep_alive = SECOND);
    check(&["--sessionIdleTimeout", "1000"], |config| config.hub.limits.session_idle_timeout = SECOND);
    check(&["--sessionIdleTimeout", "0"], |config| config.hub.limits.session_idle_timeout = Duration::MAX);
    check(&["--timeout", "5", "--sessionIdleTimeout", "1000"], |config| {
        config.hub.limits.session_idle_timeout = SECOND
    });
    check(&["--gracefulShutdownTimeout", "1000"], |config| config.hub.drain_timeout = SECOND);
    check(&["--eventStore"], |_| {});
    for none in ["--no-eventStore", "--no-event-store", "--eventStore=false"] {
        check(&[none], |config| config.hub.limits.replay_events_max = 0);
    }
    check(&["--eventStoreMaxEvents", "7"], |config| config.hub.limits.replay_events_max = 7);
    check(&["--maxBodySize", "10485760"], |config| config.hub.limits.body_bytes_max = 10 << 20);
    let (config, notes) = made(&["--maxBodySize", "0"], &[]);
    assert_eq!((config.hub.limits.body_bytes_max, notes.len()), (1 << 30, 1), "{notes:?}");
    check(&["--modern"], |_| {});
    for older in ["--no-modern", "--modern=false"] {
        assert_eq!(made(&[older], &[]).1.len(), 1, "{older}");
    }
    check_own(&["--upstreamProtocol", "legacy"], |own| own.era = Era::Legacy);
    check_own(&["--upstreamProtocol", "modern"], |own| own.era = Era::Modern);
    check_own(&["--upstreamProtocol", "auto"], |_| {});
    for wrong in [
        "--eventStoreMaxEvents=0",
        "--maxBodySize=-1",
        "--requestTimeout=0",
        "--keepAliveTimeout=1s",
        "--upstreamProtocol=newest",
        "--sessionIdleTimeout=-5",
    ] {
        assert!(flags(&[wrong, "--", "x"]).is_err(), "{wrong}");
    }
}

#[test]
fn s4_22_a_shell_reads_the_whole_line() {
    let (config, _) = made(&["--shell"], &[]);
    assert_eq!(own(&config).command.expose(), "/bin/sh");
    let Draft { config, .. } = drawn(&["--shell", "--", "FOO=1 tsx", "server.js"], &[]).unwrap();
    let args: Vec<&str> = own(&config).args.iter().map(|arg| arg.expose()).collect();
    assert_eq!(args, ["-c", "FOO=1 tsx server.js"]);
}

#[test]
fn s4_23_s4_25_a_key_and_a_certificate() {
    let (config, notes) = made(&["--apiKey", "secret"], &[]);
    assert!(config.hub.access.is_asked_for() && notes.is_empty());
    assert!(!format!("{config:?}").contains("secret"), "it is not kept");
    for wrong in [&["--apiKey", ""][..], &["--sslCert", "a.pem"], &["--sslKey", "a.pem"], &["--sslCa", "a.pem"]] {
        assert!(drawn(&[wrong, &["--", "x"]].concat(), &[]).is_err(), "{wrong:?}");
    }
    let error = drawn(&["--sslCert", "a.pem", "--sslKey", "k.pem", "x"], &[]).err().unwrap();
    assert!(error.contains("/here/a.pem"), "{error}");
}

#[test]
fn s4_26_flags_of_the_tunnel() {
    let tunnel = |server: &str, name: Option<&str>| {
        Some(TunnelConfig { server: server.parse().unwrap(), name: name.map(str::to_owned) })
    };
    check(&["--tunnel"], |c| c.hub.tunnel = tunnel("https://tunnel.gla.ma", None));
    let name = |c: &mut Config| c.hub.tunnel = tunnel("https://tunnel.gla.ma", Some("my-team"));
    check(&["--tunnel", "--tunnelSubdomain", "my-team"], name);
    check(&["--tunnel-subdomain=my-team", "--tunnel"], name);
    check(&["--tunnel", "--tunnelHost", "http://t:1"], |c| c.hub.tunnel = tunnel("http://t:1", None));
    let (config, notes) = made(&["--tunnelSubdomain", "my-team"], &[]);
    assert!(config.hub.tunnel.is_none() && notes[0].contains("with --tunnel only"), "{notes:?}");
    for wrong in
        [["--tunnelSubdomain", "My Team"], ["--tunnelHost", "t.example"], ["--tunnelHost", "https://u:p@t.example"]]
    {
        assert!(drawn(&[&["--tunnel"][..], &wrong, &["--", "x"]].concat(), &[]).is_err(), "{wrong:?}");
    }
    assert!(made(&["--tunnel"], &[]).0.hub.bares_all() && !made(&["--tunnel", "--apiKey", "k"], &[]).0.hub.bares_all());
}

#[test]
fn an_open_address_needs_a_key_or_a_word() {
    let open = ["--host", "0.0.0.0"];
    assert!(made(&open, &[]).0.hub.exposed().is_some());
    let keyed = made(&[open.as_slice(), &["--api-key", "k", "--allow-host", "box"]].concat(), &[]);
    assert!(keyed.0.hub.exposed().is_none() && keyed.1.is_empty());
    assert_eq!(keyed.0.hub.allowed_hosts, ["box"]);
    let meant = made(&[open.as_slice(), &["--allow-unauthenticated"]].concat(), &[]);
    assert!(meant.0.hub.exposed().is_none() && meant.1.len() == 1, "only localhost is served: {:?}", meant.1);
}
