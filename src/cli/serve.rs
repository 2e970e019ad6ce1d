//! `hubward serve`: the hub in the foreground.

use std::{io::IsTerminal, sync::Arc};

use super::{ConfigFlag, FAILED, Globals, OK, USAGE, complain, fail, not_started, say};
use crate::{
    config::{self, Bind, Config, Loaded, report},
    hub::{Reload, Source},
    run::{self, Running},
    shutdown::Shutdown,
};

#[derive(clap::Args)]
pub struct Args {
    /// Listen here instead of where the file says: HOST:PORT, https://HOST:PORT or unix:PATH (repeatable; port 0 picks one)
    #[arg(long, value_name = "ADDRESS")]
    bind: Vec<Bind>,
    #[command(flatten)]
    config: ConfigFlag,
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    let path = match config::find(globals.file(&args.config).as_deref()) {
        Ok(path) => path,
        Err(error) => return fail(USAGE, error),
    };
    let color = globals.color(std::io::stderr());
    let Loaded { mut config, text, hash, warnings } = match config::read(&path) {
        Ok(loaded) => loaded,
        Err(rejected) => {
            let text = rejected.text.as_deref().unwrap_or_default();
            complain(report::draw(&rejected.diagnostics, text, &rejected.path, color));
            return USAGE;
        }
    };
    if !warnings.is_empty() {
        complain(report::draw(&warnings, &text, &path, color));
    }
    let log = match globals.log(config.hub.log.level.as_str(), config.hub.log.format) {
        Ok(log) => log,
        Err(error) => return fail(USAGE, error),
    };
    let bind = args.bind;
    let overrides = move |config: &mut Config| {
        if !bind.is_empty() {
            config.hub.bind.clone_from(&bind);
        }
    };
    overrides(&mut config);
    let source = Source { path: path.clone(), overrides: Box::new(overrides) };
    let code = run::on_system(async move {
        let running = match Running::start(config, hash, Some(source)).await {
            Ok(running) => running,
            Err(error) => return not_started(error),
        };
        let reload = running.hub.clone();
        let again = Arc::new(move || drop(reload.try_send(Reload)));
        let hangup = again.clone();
        let shutdown = match Shutdown::listen(move || hangup()) {
            Ok(shutdown) => shutdown,
            Err(error) => return fail(FAILED, format!("cannot listen for signals: {error}")),
        };
        let watch = config::watch(&path, move || again());
        if let Err(error) = &watch {
            tracing::warn!("{error}; SIGHUP still reloads {}", path.display());
        }
        announce(urls(&running));
        if std::io::stderr().is_terminal()
            && let Some(first) = running.bases.first()
        {
            tracing::info!("listening; the state of all upstreams: {first}/api/v1/status");
        }
        running.until(shutdown).await;
        drop(watch);
        OK
    });
    log.flush();
    code
}

/// Where each upstream is.
fn urls(running: &Running) -> Vec<String> {
    let config = running.house.config.load();
    let routes = running.house.table.load();
    let mut urls = Vec::new();
    for base in &running.bases {
        for prefix in &config.prefixes {
            let base = format!("{base}{prefix}");
            let named = routes.by_name.keys().map(|name| format!("{base}/{name}"));
            let all = named.chain(routes.default.iter().map(|_| base.clone()));
            urls.extend(all.flat_map(|mount| [format!("{mount}/mcp"), format!("{mount}/sse")]));
        }
    }
    urls
}

/// Prints the URLs, once the hub listens. On a thread of its own: whoever started us may not read what we say, and
/// a full pipe would hold the whole hub up (F110).
pub fn announce(urls: Vec<String>) {
    if urls.is_empty() {
        return;
    }
    let print = move || say(urls.join("\n"));
    if let Err(error) = std::thread::Builder::new().name("announce".into()).spawn(print) {
        tracing::warn!("cannot print the URLs: {error}");
    }
}
