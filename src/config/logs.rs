//! Where an upstream's lines go: what is written as `stderr_file`.

use std::path::PathBuf;

use toml::Spanned;

use super::upstream::tidy;
use super::value::Reader;
use super::watch::is_log;

impl Reader<'_> {
    /// A path, relative to the file.
    pub(super) fn stderr_file(&mut self, written: &Spanned<String>) -> Option<PathBuf> {
        let text = self.follow(written);
        if text.expose().is_empty() {
            if !text.is_secret() {
                self.found.error(written.span(), "`stderr_file` is empty").help("such as \"logs/time.log\"");
            }
            return None;
        }
        let path = tidy(self.folder, text.expose());
        // What is written to all day would have the file read all day.
        if path.parent() == Some(self.folder) && !is_log(&path) {
            let title = "beside hub.toml, only files that end with .log do not count as a change";
            self.found.warning(written.span(), title).help("end its name with .log, or put it into a folder");
        }
        Some(path)
    }
}
