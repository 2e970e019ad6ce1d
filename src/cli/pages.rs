//! `hubward completions` and `hubward man`: what a package puts beside the binary, made from the commands themselves.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, FAILED, OK, fail};

#[derive(clap::Args)]
pub struct CompletionsArgs {
    shell: Shell,
}

#[derive(clap::Args)]
pub struct ManArgs {
    /// Write a page for each command into this folder, instead of the first one to stdout
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub fn completions(args: CompletionsArgs) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hubward", &mut script);
    // Whoever started us may have closed it.
    let _ = io::stdout().lock().write_all(&script);
    OK
}

pub fn man(args: ManArgs) -> u8 {
    let command = Cli::command();
    let written = match &args.out {
        Some(folder) => std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder)),
        None => {
            let mut page = Vec::new();
            let made = clap_mangen::Man::new(command).render(&mut page);
            let _ = io::stdout().lock().write_all(&page);
            made
        }
    };
    match written {
        Ok(()) => OK,
        Err(error) => {
            let place = args.out.map_or_else(|| "stdout".into(), |folder| folder.display().to_string());
            fail(FAILED, format!("the pages cannot be written to {place}: {error}"))
        }
    }
}
