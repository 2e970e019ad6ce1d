//! What is written in `restart`: how often, and how soon, a dead process is started again.

use std::ops::Range;
use std::time::Duration;

use toml::de::DeTable;

use super::Restart;
use super::keys::Section;
use super::upstream::{DAY, HOUR};
use super::value::{Field, Reader, Zero, set};

/// As written; `None` is "not said".
#[derive(Default, Clone)]
pub(super) struct RestartFile {
    max: Option<usize>,
    period: Option<Duration>,
    backoff_min: Option<Duration>,
    backoff_max: Option<Duration>,
    span: Option<Range<usize>>,
}

impl RestartFile {
    /// Joined with that of `[defaults]` key by key.
    pub(super) fn over(self, defaults: &Self) -> Self {
        Self {
            max: self.max.or(defaults.max),
            period: self.period.or(defaults.period),
            backoff_min: self.backoff_min.or(defaults.backoff_min),
            backoff_max: self.backoff_max.or(defaults.backoff_max),
            span: self.span.or_else(|| defaults.span.clone()),
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn restart(&mut self, field: &Field<'a>) -> RestartFile {
        let mut file = RestartFile { span: Some(field.span.clone()), ..RestartFile::default() };
        for (key, value) in self.table(field).into_iter().flat_map(DeTable::iter) {
            let field = Field::new(&field.path, key, value);
            let second = Duration::from_secs(1);
            let blink = Duration::from_millis(10);
            match field.key {
                "max" => file.max = self.count(&field, 0..=1000),
                "period" => file.period = self.duration(&field, Zero::Refused, second..=DAY),
                "backoff_min" => file.backoff_min = self.duration(&field, Zero::Refused, blink..=HOUR),
                "backoff_max" => file.backoff_max = self.duration(&field, Zero::Refused, blink..=DAY),
                _ => self.unknown(&field, Section::Restart),
            }
        }
        file
    }

    pub(super) fn restart_complete(&mut self, file: RestartFile, field: &Field<'a>) -> Restart {
        let mut restart = Restart::default();
        set(&mut restart.max, file.max);
        set(&mut restart.period, file.period);
        set(&mut restart.backoff_min, file.backoff_min);
        set(&mut restart.backoff_max, file.backoff_max);
        if restart.backoff_min > restart.backoff_max {
            let span = file.span.unwrap_or(field.key_span.clone());
            let finding = self.found.error(span, format!("`{}.restart`: backoff_min exceeds backoff_max", field.path));
            finding.help("the wait begins with backoff_min (500ms) and grows to backoff_max (30s)");
        }
        restart
    }
}
