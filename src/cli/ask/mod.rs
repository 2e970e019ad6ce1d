//! The one-shot client: `tools`, `resources`, `prompts`, `call`, `read`, `prompt`, `raw` and `ping` ask one server one
//! thing, print the answer, and are gone.
//!
//! [`Target`] is whom, [`Wish`] is what, [`Talk`] is how it is told, and [`once`] does it. No hub is needed: a link, a
//! connection, a greeting, as the hub makes them. Data goes to stdout, talk to stderr; the exit code is that of
//! [`stop`].
//!
//! Invariant: what is wrong with the arguments is said before anything is called.

mod arguments;
mod dial;
mod form;
mod lists;
pub(super) mod plain;
mod raw;
mod save;
mod schema;
mod server;
mod show;
pub mod stop;
mod talk;
mod target;
mod wish;
mod words;

use std::{path::PathBuf, time::Duration};

pub use raw::Raw;
pub use stop::Stop;
pub use talk::Talk;
pub use target::{Reach, Target};
pub use wish::{Wish, once};

use super::{FAILED, Globals, USAGE, fail};
use crate::{
    config::Format,
    link::{keeper, orphans},
};

/// How long descendants of a command may take to end that their parent left behind: they are asked, then killed.
const LEFT_MAX: Duration = Duration::from_secs(3);

/// How it is told.
#[derive(clap::Args)]
pub struct Telling {
    /// Print the result as it came, as JSON
    #[arg(long)]
    json: bool,
    /// Show the server's log messages, and its progress where there is no terminal
    #[arg(short, long)]
    verbose: bool,
}

/// `hubward tools|resources|prompts|ping`.
#[derive(clap::Args)]
pub struct ServerArgs {
    /// A URL, or the name of an upstream of the local hub.toml
    #[arg(value_name = "URL")]
    words: Vec<String>,
    #[command(flatten)]
    telling: Telling,
    #[command(flatten)]
    reach: Reach,
}

/// `hubward call|prompt|read`.
#[derive(clap::Args)]
pub struct NamedArgs {
    #[arg(value_name = "URL NAME [ARGS]", help = "Whom, what, and with what: see above")]
    words: Vec<String>,
    /// Write images, audio and blobs into this folder; nothing there is replaced
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    #[command(flatten)]
    telling: Telling,
    #[command(flatten)]
    reach: Reach,
}

/// `hubward raw`.
#[derive(clap::Args)]
pub struct RawArgs {
    #[arg(
        value_name = "URL JSON",
        help = "Whom, and the request; `jsonrpc` and `id` are added where they are missing"
    )]
    words: Vec<String>,
    #[command(flatten)]
    telling: Telling,
    #[command(flatten)]
    reach: Reach,
}

/// `tools`, `resources`, `prompts` and `ping`: they take nothing but the server.
pub fn of_server(args: ServerArgs, wish: Wish, globals: &Globals) -> u8 {
    asked(args.reach, &args.words, args.telling, None, globals, |words| match words {
        [] => Ok(wish),
        [word, ..] => Err(Stop::usage(format!("`{word}` is too much: only the server is needed"))),
    })
}

/// `call`.
pub fn call(args: NamedArgs, globals: &Globals) -> u8 {
    asked(args.reach, &args.words, args.telling, args.save, globals, |words| match words.split_first() {
        Some((tool, arguments)) => Ok(Wish::Call { tool: tool.clone(), arguments: arguments.to_vec() }),
        None => Err(Stop::usage("which tool? `hubward tools` lists them")),
    })
}

/// `prompt`.
pub fn prompt(args: NamedArgs, globals: &Globals) -> u8 {
    asked(args.reach, &args.words, args.telling, args.save, globals, |words| match words.split_first() {
        Some((name, arguments)) => Ok(Wish::Prompt { name: name.clone(), arguments: arguments.to_vec() }),
        None => Err(Stop::usage("which prompt? `hubward prompts` lists them")),
    })
}

/// `read`.
pub fn read(args: NamedArgs, globals: &Globals) -> u8 {
    asked(args.reach, &args.words, args.telling, args.save, globals, |words| match words {
        [uri] => Ok(Wish::Read { uri: uri.clone() }),
        _ => Err(Stop::usage("one URI is needed; `hubward resources` lists them")),
    })
}

/// `raw`.
pub fn raw(args: RawArgs, globals: &Globals) -> u8 {
    asked(args.reach, &args.words, args.telling, None, globals, |words| match words {
        [request] => Raw::read(request).map(Wish::Raw),
        _ => Err(Stop::usage("one request is needed, as one argument")),
    })
}

fn asked(
    reach: Reach,
    words: &[String],
    telling: Telling,
    save: Option<PathBuf>,
    globals: &Globals,
    wish: impl FnOnce(&[String]) -> Result<Wish, Stop>,
) -> u8 {
    let log = match globals.log("warn", Format::Human) {
        Ok(log) => log,
        Err(error) => return fail(USAGE, error),
    };
    let prepared = Target::of_flags(&reach, words, globals).and_then(|(target, rest)| Ok((target, wish(rest)?)));
    let code = match prepared {
        Ok((target, wish)) => run(&target, &Talk::new(telling.json, telling.verbose, save), wish),
        Err(stop) => fail(stop.code, stop.text),
    };
    log.flush();
    code
}

/// Greets a server as any client does: its name, the revision, and how many tools it has, if it offers any.
pub(super) async fn greet(target: &Target) -> Result<(String, String, Option<usize>), Stop> {
    let (talk, opened) = (Talk::default(), dial::Opened::default());
    let met = async {
        let server = server::Server::reach(target, &talk, &opened).await?;
        let name = server.profile.result["serverInfo"]["name"].as_str().unwrap_or("the server").to_owned();
        let revision = server.profile.speaks.as_str().to_owned();
        let tools = match server.profile.can(&["tools"]) {
            true => Some(server.list("tools/list", "tools", "tools").await?.items.len()),
            false => None,
        };
        Ok((name, revision, tools))
    };
    let met = met.await;
    opened.close().await;
    met
}

/// [`once`], on a runtime of its own.
pub fn run(target: &Target, talk: &Talk, wish: Wish) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, format!("cannot start: {error}")),
    };
    // A command may start others, and none of them is to outlive us.
    let keeper = target.config.remote.is_none().then(|| {
        let _enter = runtime.enter();
        let _ = orphans::adopt();
        keeper::start()
    });
    let code = runtime.block_on(async {
        let code = once(target, talk, wish).await;
        if keeper.is_some() {
            orphans::settled(LEFT_MAX).await;
        }
        code
    });
    // Somebody may still be asked something, at a terminal that says nothing.
    runtime.shutdown_background();
    drop(keeper);
    code
}
