//! `hubward version`.

use crate::wire::Revision;

#[derive(clap::Args)]
pub struct Args {
    /// Also show the platform and the protocol revisions
    #[arg(long, short)]
    verbose: bool,
}

pub fn run(args: Args) -> u8 {
    super::say(format_args!("hubward {}", env!("CARGO_PKG_VERSION")));
    if args.verbose {
        super::say(format_args!("platform: {}-{}", std::env::consts::ARCH, std::env::consts::OS));
        super::say(format_args!("protocol revisions: {}", Revision::ALL.map(Revision::as_str).join(", ")));
    }
    super::OK
}
