//! Where there are no process groups: what tokio offers.

use std::process::Stdio;

use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::*;

pub(in crate::link) type Stdin = ChildStdin;
pub(in crate::link) type Stdout = ChildStdout;

pub(in crate::link) type StdinEnd = End<ChildStdin>;
pub(in crate::link) type StdoutEnd = End<ChildStdout>;

impl<T> End<T> {
    pub(in crate::link) fn open(self) -> io::Result<T> {
        Ok(self.0)
    }

    /// Its runtime goes on serving it.
    pub(in crate::link) fn of(pipe: T) -> io::Result<End<T>> {
        Ok(End(pipe))
    }
}

pub(super) struct Ends {
    pub(super) stdin: StdinEnd,
    pub(super) stdout: StdoutEnd,
    pub(super) stderr: End<ChildStderr>,
}

pub(super) fn start(spec: &ProcessSpec, _bounds: &Arc<Bounds>, instance: &mut Instance) -> io::Result<(Child, Ends)> {
    let mut command = Command::new(&spec.command);
    command.args(&spec.args).env_clear().envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.envs(instance.marks()).current_dir(&spec.cwd);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = instance.start(|| command.spawn(), |child| child.id())?;
    let taken = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = taken else { return Err(io::ErrorKind::BrokenPipe.into()) };
    Ok((child, Ends { stdin: End(stdin), stdout: End(stdout), stderr: End(stderr) }))
}
