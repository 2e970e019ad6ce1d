//! How a line of the log looks, for people or as JSON: no value can end its line, or steer the terminal that shows it.

use std::{
    fmt::{self, Debug, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format as Usual, Writer},
    },
    registry::LookupSpan,
};

use crate::{
    config::Format,
    wire::printable::{Printable, is_plain},
};

/// The field whose lines are ours, and shown as lines: the drawn errors of a file.
pub(super) const REPORT: &str = "report";

/// For whom the log is written, at the moment.
#[derive(Clone)]
pub(super) struct Form {
    json: Arc<AtomicBool>,
}

impl Form {
    pub(super) fn new(format: Format) -> Form {
        Form { json: Arc::new(AtomicBool::new(format == Format::Json)) }
    }

    pub(super) fn set(&self, format: Format) {
        self.json.store(format == Format::Json, Ordering::Relaxed);
    }
}

impl<S, N> FormatEvent<S, N> for Form
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let usual = Usual::default().with_target(false);
        if !self.json.load(Ordering::Relaxed) {
            return usual.format_event(context, writer, event);
        }
        let mut line = String::new();
        let json = usual.json().flatten_event(true).with_current_span(false).with_span_list(false);
        json.format_event(context, Writer::new(&mut line), event)?;
        // JSON escapes less than terminals obey.
        for c in line.trim_end_matches('\n').chars() {
            match is_plain(c) {
                true => writer.write_char(c)?,
                false => write!(writer, "\\u{:04x}", u32::from(c))?,
            }
        }
        writer.write_char('\n')
    }
}

/// The message and the fields of a line for people.
pub(super) struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut written = Written { writer, any: false, report: String::new(), outcome: Ok(()) };
        fields.record(&mut written);
        for line in written.report.lines() {
            let indent = if line.is_empty() { "\n" } else { "\n  " };
            written.writer.write_str(indent)?;
            Printable(&mut written.writer).write_str(line)?;
        }
        written.outcome
    }
}

struct Written<'w> {
    writer: Writer<'w>,
    any: bool,
    report: String,
    outcome: fmt::Result,
}

impl Written<'_> {
    fn write(&mut self, name: &str, value: &dyn Debug) -> fmt::Result {
        if name == REPORT {
            return write!(self.report, "{value:?}");
        }
        if std::mem::replace(&mut self.any, true) {
            self.writer.write_char(' ')?;
        }
        match (name, self.writer.has_ansi_escapes()) {
            ("message", _) => {}
            (name, true) => write!(self.writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
            (name, false) => write!(self.writer, "{name}=")?,
        }
        write!(Printable(&mut self.writer), "{value:?}")
    }
}

impl Visit for Written<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let name = field.name();
        // Where a record of the crate `log` is from.
        if self.outcome.is_ok() && !name.starts_with("log.") {
            self.outcome = self.write(name.trim_start_matches("r#"), value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" | REPORT => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::Mutex,
    };

    use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Kept;

        fn make_writer(&'a self) -> Kept {
            self.clone()
        }
    }

    /// What is logged, without the time.
    fn logged(format: Format, color: bool, say: impl FnOnce()) -> String {
        let kept = Kept::default();
        let layer = tracing_subscriber::fmt::layer().event_format(Form::new(format)).fmt_fields(Fields);
        let layer = layer.with_ansi(color).with_writer(kept.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    /// A line of its own in the log, a colour, and the text backwards.
    const EVIL: &str = "a\n2026-01-01T00:00:00Z  INFO forged\r\x1b[31m\u{9b}2J\u{202e}\u{7f}\0é";
    const TAMED: &str = r"a\n2026-01-01T00:00:00Z  INFO forged\r\u{1b}[31m\u{9b}2J\u{202e}\u{7f}\u{0}é";

    fn speak() {
        tracing::info!(upstream = %EVIL, text = EVIL, debug = ?EVIL, number = 7, "{EVIL}");
    }

    #[test]
    fn f17_no_value_ends_its_line_or_steers_a_terminal() {
        let text = logged(Format::Human, false, speak);
        let (line, rest) = text.split_once('\n').unwrap();
        assert_eq!(rest, "", "it is one line");
        assert!(line.contains(&format!("INFO {TAMED} upstream={TAMED} ")), "{line}");
        assert!(line.ends_with(" number=7") && line.chars().all(is_plain), "{line}");

        let coloured = logged(Format::Human, true, speak);
        assert!(coloured.contains("\x1b[3mupstream\x1b[0m") && !coloured.contains("\x1b[31m"), "{coloured:?}");

        let text = logged(Format::Json, false, speak);
        let (line, rest) = text.split_once('\n').unwrap();
        assert!(rest.is_empty() && line.chars().all(is_plain), "{line}");
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&json["message"], &json["upstream"], &json["number"]), (&EVIL.into(), &EVIL.into(), &7.into()));
        assert_eq!(json["level"], "INFO");
    }

    #[test]
    fn a_drawn_report_keeps_its_lines_within_its_event() {
        let text = logged(Format::Human, false, || {
            tracing::error!(report = %"error: x\n 1 | y\x1b[2J\n   ^", "rejected");
        });
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert!(text.lines().next().unwrap().ends_with("ERROR rejected"), "{text}");
        assert_eq!(lines, ["  error: x", "   1 | y\\u{1b}[2J", "     ^"]);
    }

    #[test]
    fn the_format_changes_while_it_is_written() {
        let form = Form::new(Format::Human);
        let kept = Kept::default();
        let layer = tracing_subscriber::fmt::layer().event_format(form.clone()).fmt_fields(Fields);
        let layer = layer.with_ansi(false).with_writer(kept.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!("one");
            form.set(Format::Json);
            tracing::info!("two");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with(" INFO one") && lines[1].contains(r#""message":"two""#), "{text}");
    }
}
