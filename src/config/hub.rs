//! What is written in `[hub]`, `[hub.limits]` and `[hub.log]`.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

use super::keys::Section;
use super::value::{Field, Reader, Zero, set};
use super::{AuditConfig, Bind, Face, Format, HubConfig, Level, Limits, LogConfig, Network, OnFailure, Rate, address};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl<'a> Reader<'a> {
    /// Reads `[hub]`; gives back `default`, which can only be judged when the upstreams are known.
    pub(super) fn hub(&mut self, field: &Field<'a>, hub: &mut HubConfig) -> Option<(String, Range<usize>)> {
        let mut default = None;
        for (key, value) in self.table(field)?.iter() {
            let field = Field::new("hub", key, value);
            match field.key {
                "bind" => set(&mut hub.bind, self.bind(&field)),
                "public_url" => hub.public_url = self.parsed(&field, address::public_url),
                "tls" => hub.tls = self.hub_tls(&field),
                "prefixes" => set(&mut hub.prefixes, self.prefixes(&field)),
                "default" => default = self.text(&field).map(|text| (text.expose().to_owned(), field.span)),
                "mcp_path" => set(&mut hub.mcp_path, self.parsed(&field, address::endpoint)),
                "sse_path" => set(&mut hub.sse_path, self.parsed(&field, address::endpoint)),
                "transports" => set(&mut hub.transports, self.transports(&field)),
                "stateless" => set(&mut hub.stateless, self.switch(&field)),
                "allowed_hosts" => set(&mut hub.allowed_hosts, self.all(&field, address::host)),
                "allowed_origins" => set(&mut hub.allowed_origins, self.origins(&field)),
                "allowed_headers" => set(&mut hub.allowed_headers, self.all(&field, address::header)),
                "exposed_headers" => set(&mut hub.exposed_headers, self.all(&field, address::header)),
                "auth" => self.access(&field, &mut hub.access),
                "trusted_proxies" => set(&mut hub.trusted_proxies, self.networks(&field)),
                "admin_socket" => hub.admin_socket = self.place(&field),
                "drain_delay" => {
                    set(&mut hub.drain_delay, self.duration(&field, Zero::Refused, seconds(0)..=seconds(3600)));
                }
                "drain_timeout" => {
                    set(&mut hub.drain_timeout, self.duration(&field, Zero::Refused, seconds(0)..=seconds(3600)));
                }
                "keep_alive" => {
                    set(&mut hub.keep_alive, self.duration(&field, Zero::Refused, seconds(1)..=seconds(3600)));
                }
                "generation_header" => set(&mut hub.generation_header, self.switch(&field)),
                "workers" => hub.workers = self.count(&field, 1..=512),
                "limits" => self.limits(&field, &mut hub.limits),
                "log" => self.log(&field, &mut hub.log),
                _ => self.unknown(&field, Section::Hub),
            }
        }
        if hub.mcp_path == hub.sse_path {
            self.bad(field, "`mcp_path` and `sse_path` are the same");
        }
        self.names_and_schemes(field, hub);
        default
    }

    fn limits(&mut self, field: &Field<'a>, limits: &mut Limits) {
        const MANY: usize = 1_000_000;
        const BYTES: std::ops::RangeInclusive<usize> = 1 << 10..=1 << 30;
        let day = seconds(24 * 3600);
        for (key, value) in self.table(field).into_iter().flat_map(DeTable::iter) {
            let field = Field::new("hub.limits", key, value);
            match field.key {
                "body_bytes_max" => set(&mut limits.body_bytes_max, self.size(&field, BYTES)),
                "message_bytes_max" => set(&mut limits.message_bytes_max, self.size(&field, BYTES)),
                "sessions_max" => set(&mut limits.sessions_max, self.count(&field, 1..=MANY)),
                "session_idle_timeout" => {
                    let range = Duration::from_millis(100)..=day * 30;
                    set(&mut limits.session_idle_timeout, self.duration(&field, Zero::Refused, range));
                }
                "replay_events_max" => set(&mut limits.replay_events_max, self.count(&field, 0..=MANY)),
                "replay_bytes_max" => set(&mut limits.replay_bytes_max, self.size(&field, 0..=1 << 30)),
                "calls_in_flight_max" => set(&mut limits.calls_in_flight_max, self.count(&field, 1..=MANY)),
                "connections_max" => set(&mut limits.connections_max, self.count(&field, 1..=MANY)),
                "streams_max" => set(&mut limits.streams_max, self.count(&field, 1..=MANY)),
                "queue_max" => set(&mut limits.queue_max, self.count(&field, 0..=MANY)),
                "answer_timeout" => {
                    let range = Duration::from_secs(1)..=day;
                    set(&mut limits.answer_timeout, self.duration(&field, Zero::Refused, range));
                }
                "starts_max" => set(&mut limits.starts_max, self.count(&field, 1..=1024)),
                "rate" => limits.rate = self.rate(&field),
                "principal_calls_max" => set(&mut limits.principal_calls_max, self.count(&field, 1..=MANY)),
                "principal_sessions_max" => set(&mut limits.principal_sessions_max, self.count(&field, 1..=MANY)),
                "principal_streams_max" => set(&mut limits.principal_streams_max, self.count(&field, 1..=MANY)),
                _ => self.unknown(&field, Section::Limits),
            }
        }
    }

    fn log(&mut self, field: &Field<'a>, log: &mut LogConfig) {
        for (key, value) in self.table(field).into_iter().flat_map(DeTable::iter) {
            let field = Field::new("hub.log", key, value);
            match field.key {
                "level" => set(&mut log.level, self.word(&field, &Level::WORDS)),
                "format" => {
                    set(&mut log.format, self.word(&field, &[("human", Format::Human), ("json", Format::Json)]));
                }
                "audit" => log.audit = self.audit(&field),
                _ => self.unknown(&field, Section::Log),
            }
        }
    }

    fn audit(&mut self, field: &Field<'a>) -> Option<AuditConfig> {
        let (mut path, mut on_failure) = (None, OnFailure::default());
        for (key, value) in self.table(field)?.iter() {
            let field = Field::new(&field.path, key, value);
            match field.key {
                "path" => path = self.text(&field).map(|text| self.folder.join(text.expose())),
                "on_failure" => {
                    let words = [("open", OnFailure::Open), ("closed", OnFailure::Closed)];
                    set(&mut on_failure, self.word(&field, &words));
                }
                _ => self.unknown(&field, Section::Audit),
            }
        }
        if path.is_none() && !field.value.as_table().is_some_and(|table| table.contains_key("path")) {
            self.bad(field, "`path` is missing").help("such as { path = \"audit.jsonl\" }");
        }
        Some(AuditConfig { path: path?, on_failure })
    }

    fn bind(&mut self, field: &Field<'a>) -> Option<Vec<Bind>> {
        let mut binds: Vec<Bind> = Vec::new();
        let entries = self.list(field)?;
        if entries.is_empty() {
            self.bad(field, "nowhere to listen").help("remove the key to listen on 127.0.0.1:8808");
        }
        for entry in entries {
            let Some(bind) = self.parsed(&entry, Bind::parse).map(|bind| bind.within(self.folder)) else {
                continue;
            };
            if bind.port != 0 && binds.contains(&bind) {
                self.bad(&entry, "this address is in the list already");
            } else {
                binds.push(bind);
            }
        }
        Some(binds).filter(|binds| !binds.is_empty())
    }

    fn networks(&mut self, field: &Field<'a>) -> Option<Vec<Network>> {
        let entries = self.list(field)?;
        Some(entries.iter().filter_map(|entry| self.parsed(entry, Network::parse)).collect())
    }

    fn rate(&mut self, field: &Field<'a>) -> Option<Rate> {
        const MOST: usize = 1_000_000;
        let (mut per_second, mut burst) = (None, None);
        for (key, value) in self.table(field)?.iter() {
            let field = Field::new(&field.path, key, value);
            match field.key {
                "per_second" => per_second = self.count(&field, 1..=MOST),
                "burst" => burst = self.count(&field, 1..=MOST),
                _ => self.unknown(&field, Section::Rate),
            }
        }
        let Some(per_second) = per_second else {
            if !field.value.as_table().is_some_and(|table| table.contains_key("per_second")) {
                self.bad(field, "`per_second` is missing").help("such as { per_second = 100, burst = 200 }");
            }
            return None;
        };
        // A client that starts asks for several lists at once.
        let burst = burst.unwrap_or(per_second.saturating_mul(2).min(MOST));
        Some(Rate { per_second: per_second as u32, burst: burst as u32 })
    }

    fn transports(&mut self, field: &Field<'a>) -> Option<Vec<Face>> {
        let entries = self.list(field)?;
        if entries.is_empty() {
            self.bad(field, "nothing would be served").help("remove the key for both");
        }
        let faces: Vec<Face> = entries.iter().filter_map(|entry| self.word(entry, &Face::WORDS)).collect();
        Some(faces).filter(|faces| !faces.is_empty())
    }

    fn prefixes(&mut self, field: &Field<'a>) -> Option<Vec<String>> {
        let prefixes = self.all(field, address::prefix)?;
        if prefixes.is_empty() {
            self.bad(field, "nothing would be mounted").help("remove the key to mount under \"/\"");
        }
        Some(prefixes).filter(|prefixes| !prefixes.is_empty())
    }

    fn origins(&mut self, field: &Field<'a>) -> Option<Vec<String>> {
        let entries = self.list(field)?;
        let any = entries.iter().find(|entry| entry.value.as_str() == Some("any"));
        let Some(any) = any else {
            return self.all(field, address::origin);
        };
        if entries.len() > 1 {
            self.bad(any, "\"any\" stands alone or not at all");
            return None;
        }
        self.found
            .warning(any.span.clone(), "every web page open on this machine may use every upstream")
            .help("name the origins instead, such as \"http://localhost:3000\"");
        Some(vec!["any".into()])
    }

    /// A path, relative to the file.
    fn place(&mut self, field: &Field<'a>) -> Option<PathBuf> {
        let text = self.text(field)?;
        if text.expose().is_empty() {
            self.bad(field, "a path is needed").help("remove the key for the default place");
            return None;
        }
        Some(self.folder.join(text.expose()).components().collect())
    }

    /// A string with a grammar.
    pub(super) fn parsed<T>(&mut self, field: &Field<'_>, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(field)?;
        match parse(text.expose()) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.bad(field, &problem);
                None
            }
        }
    }

    /// A list of strings with a grammar, each there once.
    pub(super) fn all(
        &mut self,
        field: &Field<'a>,
        parse: impl Fn(&str) -> Result<String, String>,
    ) -> Option<Vec<String>> {
        let mut values = Vec::new();
        for entry in self.list(field)? {
            let Some(value) = self.parsed(&entry, &parse) else {
                continue;
            };
            if values.contains(&value) {
                self.bad(&entry, "this is in the list already");
            } else {
                values.push(value);
            }
        }
        Some(values)
    }
}
