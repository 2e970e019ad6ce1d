//! What is written about the bounds of a command: `sandbox`, of which each part is enforced where it is written.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeTable;

use super::keys::Section;
use super::upstream::tidy;
use super::value::{Field, Reader};

/// The bounds of a command. What is not set is not bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxConfig {
    /// All that may be read and executed, beside what every program needs; then nothing is written but by `write`.
    pub read: Option<Vec<PathBuf>>,
    /// All that may be written, and read.
    pub write: Option<Vec<PathBuf>>,
    /// Bytes.
    pub memory_max: Option<usize>,
    /// Processes and their threads.
    pub processes_max: Option<usize>,
    /// `false`: no network at all.
    pub network: bool,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self { read: None, write: None, memory_max: None, processes_max: None, network: true }
    }
}

/// As written; the lists keep their references.
#[derive(Default, Clone)]
pub(super) struct SandboxFile {
    read: Option<Vec<Spanned<String>>>,
    write: Option<Vec<Spanned<String>>>,
    memory_max: Option<usize>,
    processes_max: Option<usize>,
    network: Option<bool>,
}

/// Less than a program needs to start is a slip of the pen; a TiB is no bound any more.
const MEMORY_MIN: usize = 1 << 20;
const MEMORY_MAX: usize = if usize::BITS < 64 { usize::MAX } else { 1 << (usize::BITS - 24) };

impl<'a> Reader<'a> {
    pub(super) fn sandbox(&mut self, field: &Field<'a>) -> SandboxFile {
        let mut file = SandboxFile::default();
        for (key, value) in self.table(field).into_iter().flat_map(DeTable::iter) {
            let field = Field::new(&field.path, key, value);
            match field.key {
                "read" => file.read = self.paths(&field),
                "write" => file.write = self.paths(&field),
                "memory_max" => file.memory_max = self.size(&field, MEMORY_MIN..=MEMORY_MAX),
                "processes_max" => file.processes_max = self.count(&field, 1..=100_000),
                "network" => file.network = self.switch(&field),
                _ => self.unknown(&field, Section::Sandbox),
            }
        }
        file
    }

    fn paths(&mut self, field: &Field<'a>) -> Option<Vec<Spanned<String>>> {
        let mut paths = Vec::new();
        for entry in self.list(field)? {
            match self.written(&entry) {
                Some(path) if path.get_ref().trim().is_empty() => {
                    self.bad(&entry, "this is no path").help("name a file or a folder; an empty list allows none");
                }
                path => paths.extend(path),
            }
        }
        Some(paths)
    }

    pub(super) fn sandbox_complete(&mut self, file: &SandboxFile) -> SandboxConfig {
        let folder = self.folder;
        let mut resolved = |list: &Option<Vec<Spanned<String>>>| {
            let paths = list.as_ref()?.iter().map(|path| tidy(folder, self.follow(path).expose()));
            Some(paths.collect())
        };
        SandboxConfig {
            read: resolved(&file.read),
            write: resolved(&file.write),
            memory_max: file.memory_max,
            processes_max: file.processes_max,
            network: file.network.unwrap_or(true),
        }
    }
}

impl SandboxFile {
    /// This, with `defaults` where it says nothing.
    pub(super) fn over(self, defaults: &SandboxFile) -> SandboxFile {
        SandboxFile {
            read: self.read.or_else(|| defaults.read.clone()),
            write: self.write.or_else(|| defaults.write.clone()),
            memory_max: self.memory_max.or(defaults.memory_max),
            processes_max: self.processes_max.or(defaults.processes_max),
            network: self.network.or(defaults.network),
        }
    }
}
