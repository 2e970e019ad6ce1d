//! How much is logged: of each upstream as much as it says, of all else as much as the hub says.
//!
//! An event belongs to an upstream by its field `upstream`. Where no upstream has a level of its own, and for events
//! that cannot belong to any, the decision is made once for each place in the code, as ever.

use std::{
    collections::HashMap,
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    subscriber::Interest,
};
use tracing_subscriber::{
    EnvFilter,
    layer::{Context, Filter},
};

use crate::config::Level;

/// The field that says which upstream an event is about.
const UPSTREAM: &str = "upstream";

/// What can be set.
pub(super) struct Levels {
    quiet: &'static str,
    /// The filter of the hub, as text.
    filter: Mutex<String>,
    rules: ArcSwap<Rules>,
}

/// What is asked for each event.
struct Rules {
    hub: EnvFilter,
    own: HashMap<String, LevelFilter>,
    /// The least and the most that any upstream says.
    least: LevelFilter,
    most: LevelFilter,
}

impl Levels {
    /// `filter` is a level or the filter syntax of tracing, and goes before `quiet`.
    pub(super) fn new(quiet: &'static str, filter: &str) -> Result<Arc<Levels>, String> {
        let rules = Rules::new(quiet, filter, HashMap::new())?;
        Ok(Arc::new(Levels { quiet, filter: Mutex::new(filter.to_owned()), rules: ArcSwap::from_pointee(rules) }))
    }

    /// Sets the level of the hub, if it is to change, and those of all upstreams that have one.
    pub(super) fn set(&self, hub: Option<Level>, upstreams: impl IntoIterator<Item = (String, Level)>) {
        let own: HashMap<String, LevelFilter> =
            upstreams.into_iter().map(|(upstream, level)| (upstream, filter(level))).collect();
        let mut current = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = hub.map_or_else(|| current.clone(), |level| level.as_str().to_owned());
        if wanted == *current && own == self.rules.load().own {
            return;
        }
        let Ok(rules) = Rules::new(self.quiet, &wanted, own) else { return };
        *current = wanted;
        self.rules.store(Arc::new(rules));
        drop(current);
        // Each place in the code asks again.
        tracing::callsite::rebuild_interest_cache();
    }
}

impl Rules {
    fn new(quiet: &str, filter: &str, own: HashMap<String, LevelFilter>) -> Result<Rules, String> {
        let hub = EnvFilter::try_new(format!("{quiet},{filter}"))
            .map_err(|error| format!("the log level `{filter}` is not understood: {error}"))?;
        let least = own.values().min().copied().unwrap_or(LevelFilter::TRACE);
        let most = own.values().max().copied().unwrap_or(LevelFilter::OFF);
        Ok(Rules { hub, own, least, most })
    }

    /// May an upstream's own level decide about it?
    fn is_split(&self, metadata: &Metadata<'_>) -> bool {
        !self.own.is_empty() && metadata.is_event() && metadata.fields().field(UPSTREAM).is_some()
    }
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

/// The filter of the log's layer.
pub(super) struct Judge(pub(super) Arc<Levels>);

impl<S: Subscriber> Filter<S> for Judge {
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let rules = self.0.rules.load();
        let hub = Filter::<S>::callsite_enabled(&rules.hub, metadata);
        match metadata.level() {
            _ if !rules.is_split(metadata) => hub,
            level if *level <= rules.least && hub.is_always() => hub,
            level if *level > rules.most && hub.is_never() => hub,
            _ => Interest::sometimes(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        let rules = self.0.rules.load();
        let own = rules.is_split(metadata) && *metadata.level() <= rules.most;
        own || Filter::<S>::enabled(&rules.hub, metadata, context)
    }

    fn event_enabled(&self, event: &Event<'_>, context: &Context<'_, S>) -> bool {
        let (rules, metadata) = (self.0.rules.load(), event.metadata());
        if !rules.is_split(metadata) {
            return true;
        }
        let mut about = About(String::new());
        event.record(&mut about);
        match rules.own.get(&about.0) {
            Some(level) => metadata.level() <= level,
            None => Filter::<S>::enabled(&rules.hub, metadata, context),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let rules = self.0.rules.load();
        Filter::<S>::max_level_hint(&rules.hub).map(|hub| hub.max(rules.most))
    }
}

/// Which upstream an event is about.
struct About(String);

impl Visit for About {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == UPSTREAM {
            let _ = write!(self.0, "{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == UPSTREAM {
            self.0.push_str(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing_subscriber::{Layer, layer::SubscriberExt};

    use super::*;

    /// Keeps what passes the filter.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Seen {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut about = About(String::new());
            event.record(&mut about);
            self.0.lock().unwrap().push(format!("{} {}", event.metadata().level(), about.0));
        }
    }

    impl Seen {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    /// The same places in the code each time, so that a decision which was kept would show.
    fn say() {
        for name in ["time", "files"] {
            tracing::warn!(upstream = %name, "warn");
            tracing::info!(upstream = name, "info");
            tracing::debug!(upstream = %name, "debug");
        }
        tracing::info!("info");
        tracing::debug!("debug");
    }

    #[test]
    fn each_upstream_has_its_own_level_and_all_else_the_hubs() {
        let levels = Levels::new("quiet=off", "info").unwrap();
        let seen = Seen::default();
        let subscriber = tracing_subscriber::registry().with(seen.clone().with_filter(Judge(levels.clone())));
        tracing::subscriber::with_default(subscriber, || {
            let check = |expected: &[&str]| {
                say();
                assert_eq!(seen.take(), expected);
            };
            check(&["WARN time", "INFO time", "WARN files", "INFO files", "INFO "]);
            levels.set(None, [("time".to_owned(), Level::Debug)]);
            check(&["WARN time", "INFO time", "DEBUG time", "WARN files", "INFO files", "INFO "]);
            levels.set(None, [("time".to_owned(), Level::Warn), ("files".to_owned(), Level::Debug)]);
            check(&["WARN time", "WARN files", "INFO files", "DEBUG files", "INFO "]);
            levels.set(Some(Level::Debug), [("time".to_owned(), Level::Error)]);
            check(&["WARN files", "INFO files", "DEBUG files", "INFO ", "DEBUG "]);
            levels.set(Some(Level::Error), []);
            check(&[]);
        });
    }

    #[test]
    fn what_nobody_wants_costs_one_look() {
        let levels = Levels::new("quiet=off", "info").unwrap();
        let judge = Judge(levels.clone());
        let hint = || Filter::<tracing_subscriber::Registry>::max_level_hint(&judge);
        assert_eq!(hint(), Some(LevelFilter::INFO));
        levels.set(None, [("time".to_owned(), Level::Debug)]);
        assert_eq!(hint(), Some(LevelFilter::DEBUG));
        levels.set(None, []);
        assert_eq!(hint(), Some(LevelFilter::INFO), "debug events are skipped before they are made");
    }

    #[test]
    fn a_filter_that_is_none_is_told() {
        let error = Levels::new("quiet=off", "a=b=c").err().unwrap();
        assert!(error.contains("`a=b=c`"), "{error}");
    }
}
