//! `hubward doctor`: why a client does not connect.
//!
//! `look` goes the way of a client and writes down what it sees (`seen`); `judge` says what that means. Of an upstream
//! of the local hub, the hub itself is asked first.

mod judge;
mod look;
mod seen;
mod tls;

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use url::Url;

use self::{
    judge::{Finding, Verdict, judge},
    look::Patient,
};
use super::{
    ConfigFlag, FAILED, Globals, OK, USAGE,
    ask::{Target, plain},
    fail, say,
};
use crate::{
    auth::oauth::Mode,
    config::{self, Format, HubConfig, RemoteConfig, Text},
    hub::remote::{credentials_for, http_spec},
};

/// The longest wait for the greeting of a server; it may have to be installed first.
const GREETING_MAX: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub struct Args {
    /// The URL that the client is given, or the name of an upstream of the local hub
    #[arg(value_name = "URL | NAME")]
    subject: String,
    /// What the client sends with each request, such as 'Authorization: Bearer ${env:TOKEN}' (repeatable)
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The origin of a web page that is to call it, such as `https://app.example.com` (repeatable)
    #[arg(long, value_name = "ORIGIN")]
    origin: Vec<String>,
    /// Certificates to trust beside the system's, in PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlag,
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    let log = match globals.log("error", Format::Human) {
        Ok(log) => log,
        Err(error) => return fail(USAGE, error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, format!("cannot start: {error}")),
    };
    let code = match runtime.block_on(examine(&args, globals)) {
        Ok(findings) => {
            say(if args.json {
                as_json(&findings).to_string()
            } else {
                as_text(&findings, globals.color(std::io::stdout()))
            });
            if findings.iter().any(|finding| finding.verdict == Verdict::Fail) { FAILED } else { OK }
        }
        Err(why) => fail(USAGE, why),
    };
    runtime.shutdown_background();
    log.flush();
    code
}

async fn examine(args: &Args, globals: &Globals) -> Result<Vec<Finding>, String> {
    let (mut findings, mut origins) = (Vec::new(), args.origin.clone());
    let url = match args.subject.contains("://") {
        true => Some(args.subject.clone()),
        false => {
            let path = config::find(globals.file(&args.config).as_deref())
                .map_err(|missing| format!("`{}` is not a URL, and there is {missing}", args.subject))?;
            if origins.is_empty() {
                let hub = config::hub_alone(&path).unwrap_or_default();
                origins.extend(hub.allowed_origins.into_iter().filter(|origin| origin != "any"));
            }
            local(&path, &args.subject, &mut findings).await
        }
    };
    let Some(url) = url else { return Ok(findings) };
    let patient = patient(args, &url, origins)?;
    findings.extend(judge(&look::look(&patient).await));
    Ok(findings)
}

/// The server as it is to be asked.
fn patient(args: &Args, url: &str, origins: Vec<String>) -> Result<Patient, String> {
    let parsed: Url = url.parse().map_err(|error| format!("`{url}` is not a URL: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err("the URL of a server begins with http:// or https://".into());
    }
    let mut remote = RemoteConfig::new(Text::from(url));
    remote.tls.ca.clone_from(&args.ca);
    for header in &args.headers {
        let (name, value) = header.split_once(':').ok_or("a --header must be 'Name: value'")?;
        let text = config::resolve(value.trim()).map_err(|error| format!("--header {name}: {error}"))?;
        remote.headers.insert(name.trim().to_ascii_lowercase(), text);
    }
    let http = http_spec(&remote);
    // A login that is there is used; nobody is asked for one.
    let credentials = credentials_for(&remote, Mode::Nobody, |_| ());
    let mut target = Target::remote(remote).map_err(|stop| stop.text)?;
    target.credentials = credentials.into();
    target.config.start_timeout = GREETING_MAX;
    Ok(Patient { url: parsed, target, http, origins })
}

/// What the hub says of its upstream, and where clients find that.
#[cfg(unix)]
async fn local(file: &std::path::Path, name: &str, findings: &mut Vec<Finding>) -> Option<String> {
    use crate::admin::{ask, place};
    let socket = config::admin_socket(file).unwrap_or_else(|| place::default(file));
    let mut status = Value::Null;
    let question = json!({ "command": "status", "upstream": name });
    let asked = ask::ask(&socket, &question, |line| {
        status = line;
        std::ops::ControlFlow::Continue(())
    });
    match asked.await {
        Err(error) => {
            let next = format!("hubward serve -c {}", file.display());
            findings.push(Finding::fail("hub", error.to_string(), next));
            return None;
        }
        Ok(done) if done.error.is_some() => {
            let why = done.error.unwrap_or_default();
            findings.push(Finding::fail("hub", why, "hubward list"));
            return None;
        }
        Ok(_) => findings.push(Finding::ok("hub", format!("it runs, and serves {}", file.display()))),
    }
    findings.push(upstream(name, &status));
    let hub = config::hub_alone(file).unwrap_or_default();
    let mount = mount(name, &status, &hub);
    if mount.is_none() {
        let next = "name a TCP address in `bind`, or ask over the socket: curl --unix-socket";
        findings.push(Finding::warn("name", "the hub listens on sockets in the file system only", next));
    }
    mount
}

#[cfg(not(unix))]
async fn local(_: &std::path::Path, _: &str, findings: &mut Vec<Finding>) -> Option<String> {
    findings.push(Finding::fail("hub", "the running hub can only be asked on unix", "hubward doctor URL"));
    None
}

/// How the hub finds its upstream to be.
fn upstream(name: &str, status: &Value) -> Finding {
    let text = |key: &str| status[key].as_str().map(plain::line);
    let state = text("state").unwrap_or_default();
    let told = match text("reason") {
        Some(reason) => format!("{name} is {state}: {reason}"),
        None => format!("{name} is {state}"),
    };
    match state.as_str() {
        "ready" | "idle" | "starting" => Finding::ok("upstream", told),
        "waiting" => Finding::warn("upstream", told, text("next").unwrap_or_else(|| format!("hubward logs {name}"))),
        _ => Finding::fail("upstream", told, text("next").unwrap_or_else(|| format!("hubward logs {name}"))),
    }
}

/// The URL that clients are given. What stands for all addresses is asked on this machine.
fn mount(name: &str, status: &Value, hub: &HubConfig) -> Option<String> {
    let mounts = status["mounts"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut mounts = mounts.filter(|mount| !mount.starts_with("http://unix:"));
    let own = mounts.find(|mount| mount.ends_with(&format!("/{name}/mcp")))?;
    let mut url: Url = own.parse().ok()?;
    if hub.public_url.is_none() && url.host_str().is_some_and(|host| matches!(host, "0.0.0.0" | "[::]")) {
        url.set_host(Some("localhost")).ok()?;
    }
    Some(url.to_string())
}

fn as_json(findings: &[Finding]) -> Value {
    let one = |finding: &Finding| json!({ "step": finding.step, "verdict": word(finding.verdict), "seen": finding.seen, "next": finding.next });
    json!({ "findings": findings.iter().map(one).collect::<Vec<_>>() })
}

fn as_text(findings: &[Finding], color: bool) -> String {
    let mut lines = Vec::new();
    for Finding { step, verdict, seen, next } in findings {
        let (paint, word) = (
            match verdict {
                Verdict::Ok => 32,
                Verdict::Warn => 33,
                Verdict::Fail => 31,
            },
            word(*verdict),
        );
        let word = if color { format!("\x1b[{paint}m{word:<4}\x1b[0m") } else { format!("{word:<4}") };
        lines.push(format!("{word}  {step:<9} {}", plain::line(seen)));
        lines.extend(next.as_ref().map(|next| format!("                → {}", plain::line(next))));
    }
    let count = |wanted: Verdict| findings.iter().filter(|finding| finding.verdict == wanted).count();
    lines.push(match (count(Verdict::Fail), count(Verdict::Warn)) {
        (0, 0) => "a client can connect".into(),
        (0, warned) => format!("a client can connect; {warned} to look at"),
        (failed, _) => format!("{failed} in the way of a client"),
    });
    lines.join("\n")
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    }
}
