//! Two configurations become a plan: what is added, removed, replaced, updated in place, kept, and refused.
//!
//! A reload is a value before it is a deed. What can change under a running process and what needs another one is
//! decided here and nowhere else, by taking the configuration apart without `..`: a new field does not compile until
//! someone decides about it.
//!
//! Invariant: every name of either side is in exactly one list; equal definitions are always `kept`.

use std::fmt;

use super::{Config, HubConfig, HubTls, Name, RemoteConfig, UpstreamConfig};

/// What a reload will do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Keys that cannot change without a new process of the hub. Not empty: nothing of the plan is done.
    pub refused: Vec<&'static str>,
    pub added: Vec<Name>,
    pub removed: Vec<Name>,
    /// Changed such that only another process can follow.
    pub replaced: Vec<Name>,
    /// Changed such that the process need not know.
    pub updated: Vec<Name>,
    /// The same as before; not touched.
    pub kept: Vec<Name>,
    /// A key of `[hub]` changed that can change while serving.
    pub hub_changed: bool,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let Self { refused, added, removed, replaced, updated, kept: _, hub_changed } = self;
        refused.is_empty()
            && added.is_empty()
            && removed.is_empty()
            && replaced.is_empty()
            && updated.is_empty()
            && !hub_changed
    }
}

/// "2 changed, 1 added, 47 untouched".
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.refused.is_empty() {
            return write!(f, "refused: {} cannot change without a restart", self.refused.join(", "));
        }
        let counts = [
            (self.replaced.len() + self.updated.len(), "changed"),
            (self.added.len(), "added"),
            (self.removed.len(), "removed"),
        ];
        if self.hub_changed {
            f.write_str("hub changed, ")?;
        }
        for (count, word) in counts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{count} {word}, ")?;
        }
        write!(f, "{} untouched", self.kept.len())
    }
}

/// The way from `old` to `new`.
pub fn plan(old: &Config, new: &Config) -> Plan {
    let (refused, hub_changed) = hub(&old.hub, &new.hub);
    let mut plan = Plan { refused, hub_changed, ..Plan::default() };
    for name in old.upstreams.keys().filter(|name| !new.upstreams.contains_key(*name)) {
        plan.removed.push(name.clone());
    }
    for (name, new) in &new.upstreams {
        let list = match old.upstreams.get(name).map(|old| change(old, new)) {
            None => &mut plan.added,
            Some(Change::None) => &mut plan.kept,
            Some(Change::InPlace) => &mut plan.updated,
            Some(Change::Process) => &mut plan.replaced,
        };
        list.push(name.clone());
    }
    plan
}

/// The keys that are refused, and whether any other changed.
fn hub(old: &HubConfig, new: &HubConfig) -> (Vec<&'static str>, bool) {
    let HubConfig {
        bind,
        public_url,
        tls,
        prefixes,
        default,
        mcp_path,
        sse_path,
        transports,
        stateless,
        allowed_hosts,
        allowed_origins,
        allowed_headers,
        exposed_headers,
        access,
        trusted_proxies,
        admin_socket,
        drain_delay,
        drain_timeout,
        keep_alive,
        generation_header,
        workers,
        tunnel,
        limits,
        log,
    } = new;
    // The sockets and threads belong to the front from its start; all else is looked up when it is needed.
    let fixed = [
        ("hub.bind", *bind != old.bind),
        ("hub.workers", *workers != old.workers),
        ("--tunnel", *tunnel != old.tunnel),
        ("hub.keep_alive", *keep_alive != old.keep_alive),
        ("hub.admin_socket", *admin_socket != old.admin_socket),
        ("hub.tls", tls.is_some() != old.tls.is_some()),
        ("hub.tls.client_ca", asks_clients(tls) != asks_clients(&old.tls) && tls.is_some() == old.tls.is_some()),
        ("hub.limits.connections_max", limits.connections_max != old.limits.connections_max),
    ];
    let live = *public_url != old.public_url
        || (*tls != old.tls && tls.is_some() && old.tls.is_some())
        || *prefixes != old.prefixes
        || *default != old.default
        || (mcp_path, sse_path, transports) != (&old.mcp_path, &old.sse_path, &old.transports)
        || *stateless != old.stateless
        || *allowed_hosts != old.allowed_hosts
        || *allowed_origins != old.allowed_origins
        || (allowed_headers, exposed_headers) != (&old.allowed_headers, &old.exposed_headers)
        || *access != old.access
        || *trusted_proxies != old.trusted_proxies
        || (drain_delay, drain_timeout) != (&old.drain_delay, &old.drain_timeout)
        || *generation_header != old.generation_header
        || *limits != old.limits
        || *log != old.log;
    (fixed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect(), live)
}

/// Sessions that were opened without a client's certificate could be resumed after one is asked for.
fn asks_clients(tls: &Option<HubTls>) -> bool {
    tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
}

/// What the way from one definition of an upstream to another takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    None,
    /// The process need not know.
    InPlace,
    /// Only another process can follow.
    Process,
}

/// The way from one definition to another.
pub fn change(old: &UpstreamConfig, new: &UpstreamConfig) -> Change {
    let UpstreamConfig {
        enabled,
        required,
        remote,
        command,
        args,
        env,
        inherit_env,
        cwd,
        isolation,
        start,
        process_max,
        start_timeout,
        request_timeout,
        idle_timeout,
        stop_timeout,
        overlap,
        era,
        strict_stdout,
        expose_errors,
        restart,
        allow,
        tools,
        pin_tools,
        sandbox,
        log_level,
        stderr_file,
        unavailable,
    } = new;
    // What a process is made of, or how its pipes are read. Switching an upstream on or off is the same deed: one side
    // of the replacement is then no process at all.
    let process = *enabled != old.enabled
        || asked_anew(old.remote.as_ref(), remote.as_ref())
        || *command != old.command
        || *args != old.args
        || *env != old.env
        || *inherit_env != old.inherit_env
        || *cwd != old.cwd
        || *isolation != old.isolation
        || *era != old.era
        || *strict_stdout != old.strict_stdout
        || *sandbox != old.sandbox
        || *unavailable != old.unavailable;
    // What the hub alone looks at.
    let policy = *required != old.required
        || *remote != old.remote
        || *start != old.start
        || *process_max != old.process_max
        || *start_timeout != old.start_timeout
        || *request_timeout != old.request_timeout
        || *idle_timeout != old.idle_timeout
        || *stop_timeout != old.stop_timeout
        || *overlap != old.overlap
        || *expose_errors != old.expose_errors
        || *restart != old.restart
        || *allow != old.allow
        || *tools != old.tools
        || *pin_tools != old.pin_tools
        || *log_level != old.log_level
        || *stderr_file != old.stderr_file;
    match (process, policy) {
        // There is no process to replace, before or after.
        (true, _) if !enabled && !old.enabled => Change::InPlace,
        (true, _) => Change::Process,
        (false, true) => Change::InPlace,
        (false, false) => Change::None,
    }
}

/// Is another connection needed to ask as is written now?
fn asked_anew(old: Option<&RemoteConfig>, new: Option<&RemoteConfig>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            // What is passed on of a call is looked up with each.
            let RemoteConfig { url, transport, headers, forward_headers: _, auth, tls, proxy } = new;
            *url != old.url
                || *transport != old.transport
                || *headers != old.headers
                || *auth != old.auth
                || *tls != old.tls
                || *proxy != old.proxy
        }
        (old, new) => old.is_some() != new.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::{
        Auth, Bind, Era, InheritEnv, Isolation, Level, OAuthConfig, Start, Text, ToolFilter, Transport,
    };
    use super::*;

    fn time() -> UpstreamConfig {
        UpstreamConfig::new("uvx", PathBuf::from("/x"))
    }

    #[test]
    fn each_field_of_an_upstream() {
        let check = |expected: Change, alter: fn(&mut UpstreamConfig)| {
            let mut new = time();
            alter(&mut new);
            assert_eq!(change(&time(), &new), expected, "{new:?}");
            assert_eq!(change(&new, &time()), expected, "{new:?}");
        };
        check(Change::None, |_| ());
        check(Change::Process, |u| u.enabled = false);
        check(Change::Process, |u| u.command = "npx".into());
        check(Change::Process, |u| u.command = Text::secret("uvx"));
        check(Change::Process, |u| u.args = vec!["a".into()]);
        check(Change::Process, |u| u.env = [("A".to_owned(), "b".into())].into());
        check(Change::Process, |u| u.inherit_env = InheritEnv::All);
        check(Change::Process, |u| u.cwd = "/y".into());
        check(Change::Process, |u| u.isolation = Isolation::Shared);
        check(Change::Process, |u| u.era = Era::Legacy);
        check(Change::Process, |u| u.strict_stdout = true);
        check(Change::Process, |u| u.sandbox.network = false);
        check(Change::Process, |u| u.unavailable = Some("X is not set".into()));
        check(Change::InPlace, |u| u.required = false);
        check(Change::InPlace, |u| u.start = Start::Eager);
        check(Change::InPlace, |u| u.process_max = 1);
        check(Change::InPlace, |u| u.start_timeout = Duration::ZERO);
        check(Change::InPlace, |u| u.request_timeout = Duration::ZERO);
        check(Change::InPlace, |u| u.idle_timeout = Duration::ZERO);
        check(Change::InPlace, |u| u.stop_timeout = Duration::ZERO);
        check(Change::InPlace, |u| u.overlap = false);
        check(Change::InPlace, |u| u.expose_errors = true);
        check(Change::InPlace, |u| u.restart.max = 1);
        check(Change::InPlace, |u| u.tools = ToolFilter::new(&["*"], &["a"]));
        check(Change::InPlace, |u| u.pin_tools = true);
        check(Change::InPlace, |u| u.log_level = Some(Level::Debug));
        check(Change::InPlace, |u| u.stderr_file = Some("/x/time.log".into()));
    }

    #[test]
    fn each_field_of_a_remote_upstream() {
        let far = || {
            let mut far = time();
            far.remote = Some(RemoteConfig::new("https://a.example/mcp".into()));
            far
        };
        assert_eq!(change(&time(), &far()), Change::Process);
        let check = |expected: Change, alter: fn(&mut RemoteConfig)| {
            let mut new = far();
            alter(new.remote.as_mut().expect("it is remote"));
            assert_eq!(change(&far(), &new), expected, "{new:?}");
        };
        check(Change::None, |_| ());
        check(Change::Process, |r| r.url = "https://b.example/mcp".into());
        check(Change::Process, |r| r.transport = Transport::Sse);
        check(Change::Process, |r| drop(r.headers.insert("x".into(), "y".into())));
        check(Change::Process, |r| r.auth = Auth::OAuth(OAuthConfig::default()));
        check(Change::Process, |r| r.tls.verify = false);
        check(Change::Process, |r| r.proxy = Some("http://p:1".into()));
        check(Change::InPlace, |r| r.forward_headers = vec!["x-trace".into()]);
    }

    #[test]
    fn what_is_off_has_no_process_to_replace() {
        let off = UpstreamConfig { enabled: false, ..time() };
        let other = UpstreamConfig { command: "npx".into(), ..off.clone() };
        assert_eq!(change(&off, &other), Change::InPlace);
    }

    #[test]
    fn in_words() {
        let name = |word| Name::new(word).unwrap();
        let upstreams = ["a", "b", "c"].map(|word| (name(word), time())).into();
        let a = Config { upstreams, ..Config::default() };
        let mut b = a.clone();
        b.upstreams.remove("a");
        b.upstreams.insert(name("d"), time());
        b.upstreams.get_mut("b").unwrap().overlap = false;
        assert_eq!(plan(&a, &b).to_string(), "1 changed, 1 added, 1 removed, 1 untouched");
        b.hub.prefixes.push("/x".into());
        assert_eq!(plan(&a, &b).to_string(), "hub changed, 1 changed, 1 added, 1 removed, 1 untouched");
        b.hub.workers = Some(1);
        assert_eq!(plan(&a, &b).to_string(), "refused: hub.workers cannot change without a restart");
        assert_eq!(plan(&a, &a).to_string(), "3 untouched");
    }

    fn some_upstream() -> impl Strategy<Value = UpstreamConfig> {
        let command = prop::sample::select(vec!["a", "b"]);
        let limit = prop::sample::select(vec![1usize, 2]);
        (command, limit, any::<bool>(), any::<bool>(), prop::option::of(Just("gone".to_owned()))).prop_map(
            |(command, process_max, enabled, overlap, unavailable)| UpstreamConfig {
                process_max,
                enabled,
                overlap,
                unavailable,
                ..UpstreamConfig::new(command, PathBuf::from("/x"))
            },
        )
    }

    fn some_config() -> impl Strategy<Value = Config> {
        let names = prop::sample::select(vec!["a", "b", "c", "d", "e"]).prop_map(|word| Name::new(word).unwrap());
        let upstreams = prop::collection::btree_map(names, some_upstream(), 0..5);
        let workers = prop::option::of(1usize..3);
        (upstreams, workers, 8808u16..8810, 1usize..3).prop_map(|(upstreams, workers, port, sessions_max)| {
            let mut hub = HubConfig { workers, ..HubConfig::default() };
            hub.bind = vec![Bind::tcp("localhost", port)];
            hub.limits.sessions_max = sessions_max;
            Config { hub, upstreams }
        })
    }

    proptest! {
        #[test]
        fn the_way_to_itself_is_empty(a in some_config()) {
            let plan = plan(&a, &a);
            prop_assert!(plan.is_empty());
            prop_assert_eq!(plan.kept.len(), a.upstreams.len());
        }

        #[test]
        fn applying_the_plan_arrives(a in some_config(), b in some_config()) {
            let plan = plan(&a, &b);
            let mut applied = a.upstreams.clone();
            for name in &plan.removed {
                prop_assert!(applied.remove(name).is_some());
            }
            for name in &plan.added {
                prop_assert!(applied.insert(name.clone(), b.upstreams[name].clone()).is_none());
            }
            for name in plan.replaced.iter().chain(&plan.updated) {
                let new = b.upstreams[name].clone();
                prop_assert!(applied.insert(name.clone(), new.clone()).is_some_and(|old| old != new));
            }
            prop_assert_eq!(&applied, &b.upstreams);
            for name in &plan.kept {
                prop_assert_eq!(&a.upstreams[name], &b.upstreams[name]);
            }
        }

        #[test]
        fn refused_is_exactly_what_cannot_change(a in some_config(), b in some_config()) {
            let plan = plan(&a, &b);
            prop_assert_eq!(plan.refused.contains(&"hub.bind"), a.hub.bind != b.hub.bind);
            prop_assert_eq!(plan.refused.contains(&"hub.workers"), a.hub.workers != b.hub.workers);
            prop_assert!(plan.refused.len() <= 2);
            let with_fixed = HubConfig { bind: a.hub.bind.clone(), workers: a.hub.workers, ..b.hub.clone() };
            prop_assert_eq!(plan.hub_changed, a.hub != with_fixed);
        }
    }
}
