//! `hubward serve`: the hub in the foreground.

use std::io::IsTerminal;

use url::Url;

use super::{ConfigFlag, FAILED, Globals, OK, USAGE, complain, fail, load, not_started, say, tunnel};
use crate::{
    config::{self, Bind, Config, Loaded, report},
    hub::Source,
    observe,
    run::{self, Running},
    shutdown::Shutdown,
};

#[derive(clap::Args)]
pub struct Args {
    /// Listen here instead of where the file says: HOST:PORT, https://HOST:PORT or unix:PATH (repeatable; port 0 picks one)
    #[arg(long, value_name = "ADDRESS")]
    bind: Vec<Bind>,
    /// Make the hub reachable from elsewhere, through a server that sees all that passes
    #[arg(long)]
    tunnel: bool,
    /// The name that is wanted there [default: the server makes one up]
    #[arg(long, value_name = "NAME", requires = "tunnel", value_parser = config::tunnel_name)]
    tunnel_subdomain: Option<String>,
    #[arg(help = "The server: one that speaks pipenet's protocol [default: https://tunnel.gla.ma]")]
    #[arg(long, value_name = "URL", requires = "tunnel", value_parser = config::tunnel_server)]
    tunnel_host: Option<Url>,
    #[command(flatten)]
    config: ConfigFlag,
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    let path = match config::find(globals.file(&args.config).as_deref()) {
        Ok(path) => path,
        Err(error) => return fail(USAGE, error),
    };
    let color = globals.color(std::io::stderr());
    let Loaded { mut config, text, hash, warnings } = match load(&path, globals) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if !warnings.is_empty() {
        complain(report::draw(&warnings, &text, &path, color));
    }
    let log = match globals.log_of(&config.hub.log) {
        Ok(log) => log,
        Err(error) => return fail(USAGE, error),
    };
    let traces = observe::trace::install();
    let bind = args.bind;
    let tunnel = match args.tunnel.then(|| tunnel::config(args.tunnel_subdomain, args.tunnel_host)).transpose() {
        Ok(tunnel) => tunnel,
        Err(error) => return fail(USAGE, error),
    };
    let overrides = move |config: &mut Config| {
        if !bind.is_empty() {
            config.hub.bind.clone_from(&bind);
        }
        config.hub.tunnel.clone_from(&tunnel);
    };
    overrides(&mut config);
    let source = Source { path: path.clone(), overrides: Box::new(overrides) };
    let code = run::on_system(async move {
        let running = match Running::start(config, hash, Some(source)).await {
            Ok(running) => running,
            Err(error) => return not_started(error),
        };
        let again = running.reloader();
        let hangup = again.clone();
        let shutdown = match Shutdown::listen(hangup) {
            Ok(shutdown) => shutdown,
            Err(error) => return fail(FAILED, format!("cannot listen for signals: {error}")),
        };
        let watch = config::watch(&path, again);
        if let Err(error) = &watch {
            tracing::warn!("{error}; SIGHUP still reloads {}", path.display());
        }
        announce(urls(&running, &running.serving.bases));
        if std::io::stderr().is_terminal()
            && let Some(first) = running.serving.bases.first()
        {
            tracing::info!("listening; the state of all upstreams: {first}/");
        }
        tunnel::serve(running, shutdown, urls).await;
        drop(watch);
        OK
    });
    traces.flush();
    log.flush();
    code
}

/// Where each upstream is.
fn urls(running: &Running, bases: &[String]) -> Vec<String> {
    let house = &running.serving.hub.house;
    let (config, routes) = (house.config.load(), house.table.load());
    let mut urls = Vec::new();
    for base in bases {
        for prefix in &config.prefixes {
            let named = routes.by_name.keys().flat_map(|name| config.paths(Some(name.as_str())));
            let own = routes.default.iter().flat_map(|_| config.paths(None));
            urls.extend(named.chain(own).map(|path| format!("{base}{prefix}{path}")));
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
