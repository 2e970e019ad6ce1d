//! What is written about one upstream, or in `[defaults]` about all; and how the two become an [`UpstreamConfig`].
//!
//! Every key may be missing here. The upstream's own key wins over `[defaults]`, and that over the built-in default;
//! `env` and `restart` are joined key by key. References are followed last, when it is known whether a missing one is
//! forgiven.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeTable;

use super::expand::{Text, is_variable};
use super::keys::{self, Section};
use super::remote::{COMMAND_KEYS, REMOTE_KEYS, RemoteFile};
use super::restart::RestartFile;
use super::sandbox::SandboxFile;
use super::tools::{TOOL_KEYS, ToolsFile};
use super::value::{Field, Reader, Zero, set};
use super::{Era, Grant, InheritEnv, Isolation, Level, Start, UpstreamConfig, lint};

/// As written; `None` is "not said".
#[derive(Default, Clone)]
pub(super) struct UpstreamFile {
    enabled: Option<bool>,
    required: Option<bool>,
    command: Option<Spanned<String>>,
    args: Option<Vec<Spanned<String>>>,
    env: BTreeMap<String, Spanned<String>>,
    inherit_env: Option<InheritEnv>,
    cwd: Option<Spanned<String>>,
    isolation: Option<Isolation>,
    start: Option<Start>,
    process_max: Option<usize>,
    start_timeout: Option<Duration>,
    request_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    stop_timeout: Option<Duration>,
    overlap: Option<bool>,
    era: Option<Era>,
    strict_stdout: Option<bool>,
    expose_errors: Option<bool>,
    restart: RestartFile,
    allow: Option<Vec<Grant>>,
    sandbox: SandboxFile,
    remote: RemoteFile,
    tools: ToolsFile,
    log_level: Option<Level>,
    stderr_file: Option<Spanned<String>>,
}

const MOMENT: Duration = Duration::from_millis(100);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

impl<'a> Reader<'a> {
    /// One table under `[upstreams]`.
    pub(super) fn upstream(
        &mut self,
        table: &'a DeTable<'a>,
        field: &Field<'a>,
        defaults: &UpstreamFile,
    ) -> Option<UpstreamConfig> {
        let first = |keys: &[&str]| keys.iter().find_map(|key| table.get_key_value(*key));
        if let (true, Some((key, value))) = (table.contains_key("url"), first(&COMMAND_KEYS)) {
            // Whichever of the two is meant, the keys of the other say nothing.
            let own = Field::new(&field.path, key, value);
            let title = format!("the upstream `{}` has a `url` and a `{}`", field.key, own.key);
            self.found.error(own.key_span, title).help("a remote server is not started: remove one of the two");
            return None;
        }
        if let (true, Some((key, value))) = (table.contains_key("command"), first(&REMOTE_KEYS)) {
            let own = Field::new(&field.path, key, value);
            let title = format!("`{}` is for remote upstreams, and `{}` is a command", own.key, field.key);
            self.found.error(own.key_span, title).help("remove it, or give a `url` in place of the `command`");
            return None;
        }
        // A number may be a reference too, so it must be known beforehand whether a missing one is forgiven. What is
        // disabled is not started, so nothing it refers to is needed.
        let mut said = |key: &str, default: Option<bool>| {
            let own = table.get_key_value(key);
            let own = own.and_then(|(key, value)| self.switch(&Field::new(&field.path, key, value)));
            own.or(default).unwrap_or(true)
        };
        let (required, enabled) = (said("required", defaults.required), said("enabled", defaults.enabled));
        self.excused = (!required || !enabled).then(Vec::new);
        self.forgivable = true;
        let file = self.upstream_file(table, &field.path, Section::Upstream).over(defaults);
        let config = self.complete(file, table, field);
        self.forgivable = false;
        let reasons = self.excused.take().filter(|reasons| !reasons.is_empty());
        config.map(|config| UpstreamConfig { unavailable: reasons.map(|reasons| reasons.join("; ")), ..config })
    }

    /// The keys of an upstream, wherever they stand.
    pub(super) fn upstream_file(&mut self, table: &'a DeTable<'a>, path: &str, section: Section) -> UpstreamFile {
        let mut file = UpstreamFile::default();
        for (key, value) in table.iter() {
            let field = Field::new(path, key, value);
            match field.key {
                "command" if section == Section::Defaults => {
                    let finding = self.found.error(field.key_span, "`command` cannot be in [defaults]");
                    finding.help("each upstream has its own command");
                }
                "enabled" => file.enabled = self.switch(&field),
                "required" => file.required = self.switch(&field),
                "command" => file.command = self.written(&field),
                "args" => file.args = self.args(&field),
                "env" => file.env = self.env(&field),
                "inherit_env" => file.inherit_env = self.inherit_env(&field),
                "cwd" => file.cwd = self.written(&field),
                "isolation" => file.isolation = self.word(&field, &ISOLATION),
                "start" => file.start = self.word(&field, &[("lazy", Start::Lazy), ("eager", Start::Eager)]),
                "process_max" => file.process_max = self.count(&field, 1..=10_000),
                "start_timeout" => file.start_timeout = self.duration(&field, Zero::Refused, MOMENT..=HOUR),
                "request_timeout" => file.request_timeout = self.duration(&field, Zero::Refused, MOMENT..=DAY),
                "idle_timeout" => file.idle_timeout = self.duration(&field, Zero::Allowed, MOMENT..=DAY * 30),
                "stop_timeout" => file.stop_timeout = self.duration(&field, Zero::Allowed, MOMENT..=HOUR),
                "overlap" => file.overlap = self.switch(&field),
                "era" => file.era = self.word(&field, &ERA),
                "strict_stdout" => file.strict_stdout = self.switch(&field),
                "expose_errors" => file.expose_errors = self.switch(&field),
                "restart" => file.restart = self.restart(&field),
                "allow" => file.allow = self.grants(&field),
                "sandbox" => file.sandbox = self.sandbox(&field),
                "log_level" => file.log_level = self.word(&field, &Level::WORDS),
                "stderr_file" => file.stderr_file = self.written(&field),
                key if REMOTE_KEYS.contains(&key) => self.remote_key(&field, section, &mut file.remote),
                key if TOOL_KEYS.contains(&key) => self.tool_key(&field, &mut file.tools),
                _ => self.unknown(&field, section),
            }
        }
        file
    }

    fn grants(&mut self, field: &Field<'a>) -> Option<Vec<Grant>> {
        let entries = self.list(field)?;
        if entries.is_empty() {
            self.bad(field, "nobody could use it").help("`enabled = false` turns it off");
        }
        Some(entries.iter().filter_map(|entry| self.parsed(entry, Grant::parse)).collect())
    }

    fn args(&mut self, field: &Field<'a>) -> Option<Vec<Spanned<String>>> {
        Some(self.list(field)?.iter().filter_map(|entry| self.written(entry)).collect())
    }

    fn env(&mut self, field: &Field<'a>) -> BTreeMap<String, Spanned<String>> {
        let mut env = BTreeMap::new();
        for (key, value) in self.table(field).into_iter().flat_map(DeTable::iter) {
            let entry = Field::new(&field.path, key, value);
            if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
                self.found.error(entry.key_span, "a variable's name is not empty and holds no `=`");
            } else if let Some(written) = self.written(&entry) {
                env.insert(entry.key.to_owned(), written);
            }
        }
        env
    }

    fn inherit_env(&mut self, field: &Field<'a>) -> Option<InheritEnv> {
        match field.value.as_bool() {
            Some(true) => return Some(InheritEnv::All),
            Some(false) => return Some(InheritEnv::Names(Vec::new())),
            None if !field.value.is_array() => {
                self.wrong(field, "true, false, or a list of names").help("such as inherit_env = [\"PATH\", \"HOME\"]");
                return None;
            }
            None => {}
        }
        let mut names = Vec::new();
        for entry in self.list(field)? {
            let Some(text) = self.text(&entry) else {
                continue;
            };
            if is_variable(text.expose()) {
                names.push(text.expose().to_owned());
            } else {
                self.bad(&entry, "this cannot be the name of a variable");
            }
        }
        Some(InheritEnv::Names(names))
    }

    /// Fills the gaps and follows the references. `None` only if something was found.
    fn complete(&mut self, file: UpstreamFile, table: &DeTable<'_>, field: &Field<'a>) -> Option<UpstreamConfig> {
        if file.remote.has_url() {
            let remote = self.remote_complete(file.remote.clone())?;
            let mut config = UpstreamConfig::new("", self.folder.to_path_buf());
            config.remote = Some(remote);
            return Some(self.supervised(config, &file, field));
        }
        let Some(written) = &file.command else {
            // A key of the wrong type was told already, and so was a misspelt one.
            let meant = |key: &str| {
                matches!(key, "cmd" | "url") || keys::nearest(key, ["command", "url"].into_iter()).is_some()
            };
            if !table.keys().any(|key| meant(key.get_ref())) {
                let title = format!("the upstream `{}` has neither a command nor a url", field.key);
                let finding = self.found.error(field.key_span.clone(), title);
                finding
                    .label("what should it run?")
                    .help("add command = \"…\" and args = [\"…\"], or url = \"https://…\"");
            }
            return None;
        };
        let command = self.follow(written);
        if command.expose().trim().is_empty() && !command.is_secret() {
            let title = format!("the command of the upstream `{}` is empty", field.key);
            self.found.error(written.span(), title).help("name the program to run");
            return None;
        }
        let written_args = file.args.clone().unwrap_or_default();
        let args: Vec<Text> = written_args.iter().map(|arg| self.follow(arg)).collect();
        let placed = lint::placed(&args, &written_args);
        lint::command_line(&mut self.found, field.key, (&command, written.span()), &placed);

        let cwd = file.cwd.as_ref().map(|cwd| self.follow(cwd));
        let folder = self.folder;
        // A command with a slash is a path, and a path is relative to the file.
        let local = |command: String| {
            let path = command.contains('/') && Path::new(&command).is_relative();
            if path { folder.join(&command).to_string_lossy().into_owned() } else { command }
        };
        let cwd = cwd.map_or_else(|| folder.to_path_buf(), |cwd| tidy(folder, cwd.expose()));
        let mut config = UpstreamConfig::new(command.map(local), cwd);
        config.args = args;
        config.env = file.env.iter().map(|(key, value)| (key.clone(), self.follow(value))).collect();
        set(&mut config.inherit_env, file.inherit_env.clone());
        set(&mut config.strict_stdout, file.strict_stdout);
        config.sandbox = self.sandbox_complete(&file.sandbox);
        config.stderr_file = file.stderr_file.as_ref().and_then(|written| self.stderr_file(written));
        Some(self.supervised(config, &file, field))
    }

    /// What commands and remote servers have in common.
    fn supervised(&mut self, mut config: UpstreamConfig, file: &UpstreamFile, field: &Field<'a>) -> UpstreamConfig {
        set(&mut config.enabled, file.enabled);
        set(&mut config.required, file.required);
        set(&mut config.isolation, file.isolation);
        set(&mut config.start, file.start);
        set(&mut config.process_max, file.process_max);
        set(&mut config.start_timeout, file.start_timeout);
        set(&mut config.request_timeout, file.request_timeout);
        set(&mut config.idle_timeout, file.idle_timeout);
        set(&mut config.stop_timeout, file.stop_timeout);
        set(&mut config.overlap, file.overlap);
        set(&mut config.era, file.era);
        set(&mut config.expose_errors, file.expose_errors);
        set(&mut config.allow, file.allow.clone());
        config.log_level = file.log_level;
        file.tools.complete(&mut config);
        config.restart = self.restart_complete(file.restart.clone(), field);
        config
    }

    /// The text, or a blank where a reference leads nowhere: then either an error stands in the report, or the
    /// upstream is unavailable and the blank is never used.
    pub(super) fn follow(&mut self, written: &Spanned<String>) -> Text {
        self.expand(written).unwrap_or_else(|| Text::secret(""))
    }
}

const ISOLATION: [(&str, Isolation); 3] =
    [("session", Isolation::Session), ("call", Isolation::Call), ("shared", Isolation::Shared)];

const ERA: [(&str, Era); 3] = [("auto", Era::Auto), ("legacy", Era::Legacy), ("modern", Era::Modern)];

/// `folder/.` is `folder`: what is shown and compared should not depend on how it was put.
pub(super) fn tidy(folder: &Path, path: &str) -> std::path::PathBuf {
    folder.join(path).components().collect()
}

impl UpstreamFile {
    /// This, with `defaults` where it says nothing.
    fn over(self, defaults: &UpstreamFile) -> Self {
        let mut env = defaults.env.clone();
        env.extend(self.env);
        Self {
            enabled: self.enabled.or(defaults.enabled),
            required: self.required.or(defaults.required),
            command: self.command,
            args: self.args.or_else(|| defaults.args.clone()),
            env,
            inherit_env: self.inherit_env.or_else(|| defaults.inherit_env.clone()),
            cwd: self.cwd.or_else(|| defaults.cwd.clone()),
            isolation: self.isolation.or(defaults.isolation),
            start: self.start.or(defaults.start),
            process_max: self.process_max.or(defaults.process_max),
            start_timeout: self.start_timeout.or(defaults.start_timeout),
            request_timeout: self.request_timeout.or(defaults.request_timeout),
            idle_timeout: self.idle_timeout.or(defaults.idle_timeout),
            stop_timeout: self.stop_timeout.or(defaults.stop_timeout),
            overlap: self.overlap.or(defaults.overlap),
            era: self.era.or(defaults.era),
            strict_stdout: self.strict_stdout.or(defaults.strict_stdout),
            expose_errors: self.expose_errors.or(defaults.expose_errors),
            restart: self.restart.over(&defaults.restart),
            allow: self.allow.or_else(|| defaults.allow.clone()),
            sandbox: self.sandbox.over(&defaults.sandbox),
            remote: self.remote.over(&defaults.remote),
            tools: self.tools.over(&defaults.tools),
            log_level: self.log_level.or(defaults.log_level),
            stderr_file: self.stderr_file.or_else(|| defaults.stderr_file.clone()),
        }
    }
}
