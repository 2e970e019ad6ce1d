//! Images, audio and blobs become files. Their names come from a server, so they are taken apart first.
//!
//! Invariant: nothing is written outside of the folder, and nothing that is there is replaced.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Files of one name.
const SAME_MAX: u32 = 10_000;
const NAME_MAX: usize = 100;

/// Names that mean devices on Windows, whatever their ending.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

/// Writes a file. Answers where.
pub fn write(folder: &Path, hint: &str, kind: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let (stem, ending) = name(hint, kind);
    for number in 0..SAME_MAX {
        let stem = if number == 0 { stem.clone() } else { format!("{stem}-{number}") };
        let path = folder.join(format!("{stem}.{ending}"));
        // It fails where anything is there already, a link included.
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => return file.write_all(bytes).map(|()| path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// A harmless name and its ending. `hint`: a URI, or a word; `kind`: a MIME type.
fn name(hint: &str, kind: &str) -> (String, String) {
    let path = hint.split(['?', '#']).next().unwrap_or_default().trim_end_matches(['/', '\\']);
    let last = path.rsplit(['/', '\\', ':']).next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let last: String = last.chars().map(plain).take(NAME_MAX).collect();
    let last = last.trim_matches(['.', '-', '_']);
    let is_ending = |ending: &str| (1..=5).contains(&ending.len()) && ending.bytes().all(|b| b.is_ascii_alphanumeric());
    let (stem, ending) = match last.rsplit_once('.') {
        Some((stem, ending)) if is_ending(ending) && !stem.is_empty() => (stem, ending.to_ascii_lowercase()),
        _ => (last, ending_of(kind)),
    };
    let lower = stem.to_ascii_lowercase();
    let first = lower.split('.').next().unwrap_or_default();
    let is_device = DEVICES.contains(&first.trim_end_matches(|c: char| c.is_ascii_digit()));
    let stem = if stem.is_empty() || is_device { format!("file{stem}") } else { stem.to_owned() };
    (stem, ending)
}

fn ending_of(kind: &str) -> String {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let ending = match kind.as_str() {
        "image/jpeg" => "jpg",
        "image/svg+xml" => "svg",
        "audio/mpeg" => "mp3",
        "audio/x-wav" | "audio/wave" => "wav",
        "text/plain" => "txt",
        "text/markdown" => "md",
        "application/gzip" => "gz",
        other => {
            let ending = other.split_once('/').map_or("", |(_, ending)| ending);
            let plain = !ending.is_empty() && ending.len() <= 5 && ending.bytes().all(|b| b.is_ascii_alphanumeric());
            if plain { ending } else { "bin" }
        }
    };
    ending.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_harmless() {
        let check = |hint: &str, kind: &str, expected: &str| {
            let (stem, ending) = name(hint, kind);
            assert_eq!(format!("{stem}.{ending}"), expected, "{hint}");
        };
        check("file:///a/b/Photo.PNG?x#y", "image/png", "Photo.png");
        check("shot", "image/jpeg", "shot.jpg");
        check("../../etc/passwd", "text/plain; charset=utf-8", "passwd.txt");
        check("..\\..\\x.exe", "", "x.exe");
        check("/", "image/png", "file.png");
        check("..", "", "file.bin");
        check(".bashrc", "", "bashrc.bin");
        check("a\u{1b}[2Jb é\0", "x/../../y", "a__2Jb.bin");
        check("CON.txt", "", "fileCON.txt");
        check("com1", "audio/mpeg", "filecom1.mp3");
        check(&"x".repeat(500), "application/pdf", &format!("{}.pdf", "x".repeat(NAME_MAX)));
        check("demo://blob/1", "application/octet-stream", "1.bin");
    }

    #[test]
    fn nothing_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("new/folder");
        for (expected, bytes) in [("a.png", "1"), ("a-1.png", "2"), ("a-2.png", "3")] {
            let path = write(&into, "a", "image/png", bytes.as_bytes()).unwrap();
            assert_eq!(
                (path.as_path(), std::fs::read_to_string(&path).unwrap().as_str()),
                (&*into.join(expected), bytes)
            );
        }
    }
}
