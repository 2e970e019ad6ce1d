//! `hubward version`.

use crate::wire::Revision;

#[derive(clap::Args)]
pub struct Args {
    /// Also show the platform and the protocol revisions
    #[arg(long, short)]
    verbose: bool,
}

pub fn run(args: Args) -> u8 {
    println!("hubward {}", env!("CARGO_PKG_VERSION"));
    if args.verbose {
        println!("platform: {}-{}", std::env::consts::ARCH, std::env::consts::OS);
        println!("protocol revisions: {}", Revision::ALL.map(Revision::as_str).join(", "));
    }
    super::OK
}
