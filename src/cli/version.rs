//! `hubward version`.

use crate::wire::Revision;

#[derive(clap::Args)]
pub struct Args {
    /// Also show the platform, what was built in, and the protocol revisions
    #[arg(long, short)]
    verbose: bool,
}

pub fn run(args: Args) -> u8 {
    super::say(format_args!("hubward {}", env!("CARGO_PKG_VERSION")));
    if args.verbose {
        let on = [("keyring", cfg!(feature = "keyring")), ("otel", cfg!(feature = "otel"))];
        let on: Vec<&str> = on.into_iter().filter_map(|(name, on)| on.then_some(name)).collect();
        let libc = if cfg!(target_env = "musl") { "-musl" } else { "" };
        super::say(format_args!("platform: {}-{}{libc}", std::env::consts::ARCH, std::env::consts::OS));
        super::say(format_args!("features: {}", if on.is_empty() { "none".into() } else { on.join(", ") }));
        super::say(format_args!("protocol revisions: {}", Revision::ALL.map(Revision::as_str).join(", ")));
    }
    super::OK
}
