//! `hubward snippet NAME --for CLIENT`: what a client has to be given to reach one upstream, ready to paste.

use super::{ConfigFlag, FAILED, Globals, OK, USAGE, complain, fail, load, say};
use crate::config::{self, Bind, HubConfig, snippet::snippets};

#[derive(clap::Args)]
pub struct Args {
    /// The upstream, by its name in hub.toml
    name: String,
    /// The client: claude-code, claude-desktop, vscode, cursor, windsurf, zed, jetbrains, chatgpt, gemini, inspector, codex
    #[arg(long = "for", value_name = "CLIENT")]
    client: String,
    /// Print a JSON object, with where it goes and what to know
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlag,
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    let path = match config::find(globals.file(&args.config).as_deref()) {
        Ok(path) => path,
        Err(error) => return fail(USAGE, error),
    };
    let config = match load(&path, globals) {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    if !config.upstreams.keys().any(|name| name.as_str() == args.name) {
        let names: Vec<&str> = config.upstreams.keys().map(config::Name::as_str).collect();
        return fail(FAILED, format!("there is no upstream `{}`; there is {}", args.name, names.join(", ")));
    }
    let base = match base(&config.hub) {
        Ok(base) => base,
        Err(why) => return fail(FAILED, why),
    };
    let prefix = config.hub.prefixes.first().map_or("", String::as_str);
    let url = format!("{base}{prefix}/{}/mcp", args.name);
    let needs_token = config.hub.access.is_asked_for();
    let all = snippets(&args.name, &url, needs_token);
    let Some(snippet) = all.iter().find(|snippet| snippet.id == args.client) else {
        let ids: Vec<&str> = all.iter().map(|snippet| snippet.id).collect();
        return fail(USAGE, format!("no client is called `{}` here; there is {}", args.client, ids.join(", ")));
    };
    if args.json {
        say(serde_json::to_string(snippet).unwrap_or_default());
        return OK;
    }
    complain(format_args!("{}: {}", snippet.label, snippet.where_));
    say(snippet.text.trim_end());
    snippet.note.iter().for_each(complain);
    snippet.link.iter().for_each(|link| complain(format_args!("or visit {link}")));
    OK
}

/// Where clients find the hub, without a slash at the end: as the file says, for no hub need run.
fn base(hub: &HubConfig) -> Result<String, String> {
    if let Some(url) = &hub.public_url {
        return Ok(url.as_str().trim_end_matches('/').to_owned());
    }
    let typed = |bind: &&Bind| !bind.is_socket_file() && bind.port != 0;
    let Some(bind) = hub.bind.iter().find(typed) else {
        return Err("the URL is not known before the hub runs: give `bind` a port, or set `public_url` in [hub]".into());
    };
    let scheme = if bind.is_secure(hub.tls.is_some()) { "https" } else { "http" };
    let host = match (bind.is_wildcard(), bind.host.contains(':')) {
        (true, _) => {
            complain("this URL is for this machine only; `public_url` in [hub] is what others type");
            "127.0.0.1".to_owned()
        }
        (false, true) => format!("[{}]", bind.host),
        (false, false) => bind.host.clone(),
    };
    Ok(format!("{scheme}://{host}:{}", bind.port))
}
