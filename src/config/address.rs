//! Addresses, origins, hosts and prefixes: small texts with a grammar of their own.
//!
//! Each parser gives the normal form, or one sentence about what is wrong. The sentence never repeats the text: it may
//! have come from a variable.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use url::{Host, Position, Url};

/// A place to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// A name or an IP address, an IPv6 one without its brackets. Empty for a socket in the file system.
    pub host: String,
    /// 0 lets the system choose.
    pub port: u16,
    /// With TLS or without.
    pub scheme: Scheme,
}

/// What is spoken at a place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scheme {
    /// https where the hub has a certificate.
    #[default]
    Either,
    /// Without TLS.
    Http,
    /// With TLS: `[hub.tls]` says with what.
    Https,
    /// HTTP over a socket in the file system.
    Unix(PathBuf),
}

impl Bind {
    /// Whether only this machine can reach it. A name counts only if it is `localhost`: what others resolve to may
    /// change behind our back.
    pub fn is_loopback(&self) -> bool {
        if self.is_socket_file() {
            return true;
        }
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }

    /// Whether it stands for all addresses of this machine, and so for none that could be typed.
    pub fn is_wildcard(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
    }

    /// A TCP address, as it would be written without a scheme.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Bind { host: host.into(), port, scheme: Scheme::Either }
    }

    /// Is it TLS that is spoken there, given that the hub has a certificate or has none?
    pub fn is_secure(&self, certified: bool) -> bool {
        match self.scheme {
            Scheme::Either => certified,
            Scheme::Https => true,
            Scheme::Http | Scheme::Unix(_) => false,
        }
    }

    /// Whether it is a unix socket.
    pub fn is_socket_file(&self) -> bool {
        matches!(self.scheme, Scheme::Unix(_))
    }

    /// Relative paths begin at the folder.
    pub(super) fn within(mut self, folder: &Path) -> Self {
        if let Scheme::Unix(path) = &mut self.scheme {
            *path = folder.join(&*path);
        }
        self
    }

    pub(super) fn parse(written: &str) -> Result<Self, String> {
        if let Some(path) = written.strip_prefix("unix:") {
            return unix(path);
        }
        let (scheme, address) = match written.split_once("://") {
            Some(("https", address)) => (Scheme::Https, address),
            Some(("http", address)) => (Scheme::Http, address),
            _ => (Scheme::Either, written),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        if address.parse::<Ipv6Addr>().is_ok() {
            return Err("an IPv6 address needs brackets and a port, such as \"[::1]:8808\"".into());
        }
        let Some((host, port)) = address.rsplit_once(':') else {
            return Err("the port is missing, as in \"127.0.0.1:8808\"".into());
        };
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = match port.parse() {
            Ok(port) if digits => port,
            _ => return Err("a port is a number from 0 to 65535".into()),
        };
        let host = match Host::parse(host) {
            Ok(Host::Domain(name)) if is_domain(&name) => name,
            Ok(Host::Ipv4(address)) => address.to_string(),
            Ok(Host::Ipv6(address)) => address.to_string(),
            _ => {
                return Err("no such host can exist; 127.0.0.1, [::1] and localhost are the usual ones".into());
            }
        };
        Ok(Bind { host, port, scheme })
    }
}

/// The longest path that the system has room for in a socket's address.
const SOCKET_PATH_MAX: usize = 100;

fn unix(path: &str) -> Result<Bind, String> {
    if cfg!(not(unix)) {
        return Err("this system has no unix sockets".into());
    }
    match path.len() {
        0 => Err("the path is missing, as in \"unix:/run/hubward.sock\"".into()),
        1..=SOCKET_PATH_MAX => Ok(Bind { host: String::new(), port: 0, scheme: Scheme::Unix(path.into()) }),
        _ => Err(format!("the path of a socket has at most {SOCKET_PATH_MAX} bytes")),
    }
}

impl std::str::FromStr for Bind {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        Bind::parse(written)
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scheme {
            Scheme::Unix(path) => return write!(f, "unix:{}", path.display()),
            Scheme::Https => f.write_str("https://")?,
            Scheme::Http | Scheme::Either => {}
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn is_domain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// `public_url`: an http(s) address with nothing behind the path.
pub(super) fn public_url(written: &str) -> Result<Url, String> {
    let begins = |word: &str| written.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if !begins("http://") && !begins("https://") {
        return Err("it begins with http:// or https://".into());
    }
    let url = Url::parse(written).map_err(|error| error.to_string().to_lowercase())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds no user and no password".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it ends with its path: no `?` and no `#`".into());
    }
    Ok(url)
}

/// An origin as a browser sends it: scheme, host, and the port unless it is the scheme's own.
pub fn origin(written: &str) -> Result<String, String> {
    const FORM: &str = "an origin is scheme://host or scheme://host:port, and nothing more";
    let Ok(url) = Url::parse(written) else {
        return Err(FORM.into());
    };
    let bare = url.username().is_empty() && url.password().is_none() && &url[Position::AfterPort..] == "/";
    let bare = bare || url[Position::BeforeUsername..] == url[Position::BeforeHost..Position::AfterPort];
    if url.host_str().is_none_or(str::is_empty) || !bare || written.ends_with('/') {
        return Err(FORM.into());
    }
    Ok(url[..Position::AfterPort].to_lowercase())
}

/// A `Host` value: a name or an address, perhaps with a port.
pub fn host(written: &str) -> Result<String, String> {
    let url = Url::parse(&format!("http://{written}/")).ok();
    let plain = !written.contains(['/', '@', '?', '#', '\\', '*']) && !written.contains(char::is_whitespace);
    match url.as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) if !is_domain(name) => Err("this is not a host".into()),
        Some(_) if plain => Ok(written.to_ascii_lowercase()),
        _ => Err("a host is written alone or with its port: \"mcp.example.com\", \"10.0.0.7:8808\"".into()),
    }
}

/// First segments that the hub answers itself, so that a prefix there would hide a page or be hidden by one.
const PREFIX_TAKEN: [&str; 4] = ["api", "assets", "readyz", ".well-known"];

/// Pages of the hub's own, and where the messages of event streams are posted.
const PAGES: [&str; 5] = ["/ping", "/healthz", "/readyz", "/metrics", "/message"];

/// `mcp_path` and `sse_path`: a path that no page of the hub is hidden by.
pub fn endpoint(written: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'~');
    let mut segments = written.strip_prefix('/').ok_or("a path begins with `/`")?.split('/');
    let first = segments.clone().next().unwrap_or_default();
    if written.len() > 200 || !segments.all(|part| part.bytes().all(plain) && !matches!(part, "" | "." | "..")) {
        return Err("a path is made of letters, digits, `.`, `-`, `_` and `~` between single slashes".into());
    }
    let inner = written != "/" && PREFIX_TAKEN.contains(&first);
    if PAGES.contains(&written) || (inner && (first != "api" || written.starts_with("/api/v1"))) {
        return Err("the hub answers under that path itself".into());
    }
    Ok(written.to_owned())
}

/// The name of a header.
pub fn header(written: &str) -> Result<String, String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    match !written.is_empty() && written.len() <= 100 && written != "*" && written.bytes().all(token) {
        true => Ok(written.to_owned()),
        false => Err("the name of a header is letters, digits and dashes".into()),
    }
}

/// `"/"` becomes `""`, `"/a/b/"` becomes `"/a/b"`.
pub(super) fn prefix(written: &str) -> Result<String, String> {
    let Some(inner) = written.strip_prefix('/') else {
        return Err("a prefix begins with `/`".into());
    };
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        return if written.len() <= 1 { Ok(String::new()) } else { Err("a segment of it is empty".into()) };
    }
    for segment in inner.split('/') {
        if segment.is_empty() {
            return Err("a segment of it is empty".into());
        }
        if segment == "." || segment == ".." {
            return Err("`.` and `..` cannot be segments of it".into());
        }
        let odd = |c: &char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '~' | '-');
        if let Some(odd) = segment.chars().find(odd) {
            return Err(format!("{odd:?} cannot stand in it; letters, digits, `.`, `_`, `~` and `-` can"));
        }
    }
    let first = inner.split('/').next().unwrap_or_default();
    if PREFIX_TAKEN.contains(&first) {
        return Err(format!("the hub answers under `/{first}` itself"));
    }
    Ok(format!("/{inner}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(got: Result<String, String>, written: &str, expected: Result<&str, &str>) {
        match (&got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{written}"),
            (Err(got), Err(part)) => assert!(got.contains(part), "{written}: {got}"),
            _ => panic!("{written}: {got:?}"),
        }
    }

    #[test]
    fn binds() {
        let check = |written: &str, expected| check(Bind::parse(written).map(|b| b.to_string()), written, expected);
        check("127.0.0.1:8808", Ok("127.0.0.1:8808"));
        check("http://127.0.0.1:8808", Ok("127.0.0.1:8808"));
        check("[::1]:0", Ok("[::1]:0"));
        check("LocalHost:80", Ok("localhost:80"));
        check("0.0.0.0:80", Ok("0.0.0.0:80"));
        check("https://localhost:80", Ok("https://localhost:80"));
        check("https://[::1]:80/", Ok("https://[::1]:80"));
        check("ftp://localhost:80", Err("no such host"));
        check("unix:/run/x.sock", Ok("unix:/run/x.sock"));
        check("unix:", Err("path is missing"));
        check(&format!("unix:/{}", "x".repeat(100)), Err("at most"));
        check("::1", Err("brackets"));
        check("127.0.0.1", Err("port is missing"));
        check("127.0.0.1:", Err("port is a number"));
        check("127.0.0.1:+80", Err("port is a number"));
        check("127.0.0.1:65536", Err("port is a number"));
        check(":8808", Err("no such host"));
        check("*:8808", Err("no such host"));
        check("a b:1", Err("no such host"));
        check("", Err("port is missing"));
    }

    #[test]
    fn loopback() {
        let check = |written: &str, expected| {
            assert_eq!(Bind::parse(written).map(|b| b.is_loopback()), Ok(expected), "{written}");
        };
        check("127.0.0.1:1", true);
        check("127.9.9.9:1", true);
        check("127.1:1", true);
        check("[::1]:1", true);
        check("[::ffff:127.0.0.1]:1", true);
        check("localhost:1", true);
        check("https://127.0.0.1:1", true);
        check("unix:/run/x.sock", true);
        check("0.0.0.0:1", false);
        check("0:1", false);
        check("[::]:1", false);
        check("10.0.0.1:1", false);
        check("localhost.example.com:1", false);
    }

    #[test]
    fn what_is_spoken_where() {
        let check = |written: &str, expected: [bool; 2]| {
            let bind = Bind::parse(written).unwrap_or_else(|error| panic!("{written}: {error}"));
            assert_eq!([false, true].map(|certified| bind.is_secure(certified)), expected, "{written}");
        };
        check("localhost:1", [false, true]);
        check("http://localhost:1", [false, false]);
        check("https://localhost:1", [true, true]);
        check("unix:x", [false, false]);
        let path = |bind: Bind| bind.within(Path::new("/etc")).to_string();
        assert_eq!(Bind::parse("unix:x.sock").map(path), Ok("unix:/etc/x.sock".into()));
        assert_eq!(Bind::parse("unix:/x.sock").map(path), Ok("unix:/x.sock".into()));
    }

    #[test]
    fn origins() {
        let check = |written: &str, expected| check(origin(written), written, expected);
        check("https://App.example.com", Ok("https://app.example.com"));
        check("https://a.example:443", Ok("https://a.example"));
        check("http://localhost:3000", Ok("http://localhost:3000"));
        check("http://[::1]:3000", Ok("http://[::1]:3000"));
        check("tauri://localhost", Ok("tauri://localhost"));
        check("https://a.example/", Err("origin is"));
        check("https://a.example/x", Err("origin is"));
        check("https://u@a.example", Err("origin is"));
        check("https://a.example?x", Err("origin is"));
        check("a.example", Err("origin is"));
        check("null", Err("origin is"));
        check("*", Err("origin is"));
        check("file:///", Err("origin is"));
        check("any", Err("origin is"));
    }

    #[test]
    fn hosts() {
        let check = |written: &str, expected| check(host(written), written, expected);
        check("MCP.example.com", Ok("mcp.example.com"));
        check("10.0.0.7:8808", Ok("10.0.0.7:8808"));
        check("[::1]:1", Ok("[::1]:1"));
        check("http://x", Err("written alone"));
        check("x/y", Err("written alone"));
        check("a@b", Err("written alone"));
        check("*.example.com", Err("not a host"));
        check("", Err("written alone"));
    }

    #[test]
    fn prefixes() {
        let check = |written: &str, expected| check(prefix(written), written, expected);
        check("/", Ok(""));
        check("/servers/", Ok("/servers"));
        check("/servers", Ok("/servers"));
        check("/a/b", Ok("/a/b"));
        check("a", Err("begins with"));
        check("", Err("begins with"));
        check("//", Err("empty"));
        check("/a//b", Err("empty"));
        check("/a/../b", Err("`..`"));
        check("/{name}", Err("'{'"));
        check("/a%2f", Err("'%'"));
        check("/api/x", Err("itself"));
    }

    #[test]
    fn public_urls() {
        let check = |written: &str, expected| check(public_url(written).map(String::from), written, expected);
        check("https://mcp.example.com", Ok("https://mcp.example.com/"));
        check("http://x/hub", Ok("http://x/hub"));
        check("mcp.example.com", Err("begins with"));
        check("ftp://x", Err("begins with"));
        check("https://u:p@x", Err("no user"));
        check("https://x?y", Err("no `?`"));
    }
}
