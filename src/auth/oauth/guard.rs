//! Which addresses and URLs learned from a server may be asked. Pure.
//!
//! A server on the internet must not make us ask machines that only we can reach: so what it names has to be on the
//! internet too. A server in our own network may name its neighbours, and one on this machine anything here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;
use url::Host;

/// The longest URL.
const URL_BYTES_MAX: usize = 4 << 10;

/// How far inside we may be sent. Larger ones contain smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The internet only.
    Public,
    /// Networks of an organisation too.
    Private,
    /// This machine too, without TLS as well.
    Loopback,
}

/// What it takes to be sent to an address; `None`: nobody sends us there, such as to link-local addresses, where
/// clouds keep the secrets of a machine.
#[must_use]
pub fn needed(address: IpAddr) -> Option<Reach> {
    match address {
        IpAddr::V4(address) => needed_v4(address),
        IpAddr::V6(address) => needed_v6(address),
    }
}

/// By the registry of special addresses (RFC 6890 and its successors).
fn needed_v4(address: Ipv4Addr) -> Option<Reach> {
    match address.octets() {
        [127, ..] => Some(Reach::Loopback),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Some(Reach::Private),
        // This network, link-local, special assignments, documentation, 6to4 relays, benchmarks, multicast, reserved.
        [0, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [224..=255, ..] => None,
        _ => Some(Reach::Public),
    }
}

fn needed_v6(address: Ipv6Addr) -> Option<Reach> {
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        needed_v4(Ipv4Addr::new(a, b, c, d))
    };
    // Written with an address of the older kind inside, it leads where that leads; a tunnel only to the internet.
    let tunnelled = |high, low| inner(high, low).filter(|reach| *reach == Reach::Public);
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Reach::Loopback),
        [0, 0, 0, 0, 0, 0xffff, high, low] => inner(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
        [0x64, 0xff9b, 1, ..] => Some(Reach::Private),
        [0x2002, high, low, ..] => tunnelled(high, low),
        // Site-local and unique local.
        [0xfec0..=0xfeff | 0xfc00..=0xfdff, ..] => Some(Reach::Private),
        // Special protocols (Teredo, benchmarks, ORCHID), documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => None,
        [0x2000..=0x3fff, ..] => Some(Reach::Public),
        _ => None,
    }
}

/// May we be sent there?
#[must_use]
pub fn allows(reach: Reach, address: IpAddr) -> bool {
    needed(address).is_some_and(|needed| needed <= reach)
}

/// How far the name or address of the server itself reaches, as far as the URL tells.
#[must_use]
pub fn literal(url: &Url) -> Option<Reach> {
    match url.host()? {
        Host::Domain(name) => is_localhost(name).then_some(Reach::Loopback),
        // A server that is configured by a link-local address is reached; what it names is not.
        Host::Ipv4(address) => Some(needed_v4(address).unwrap_or(Reach::Public)),
        Host::Ipv6(address) => Some(needed_v6(address).unwrap_or(Reach::Public)),
    }
}

/// How far the addresses of a name reach. All of them have to be inside: one that lies on the internet says that the
/// name is somebody else's.
#[must_use]
pub fn of_addresses(addresses: impl IntoIterator<Item = IpAddr>) -> Reach {
    addresses.into_iter().map(|address| needed(address).unwrap_or(Reach::Public)).min().unwrap_or(Reach::Public)
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

/// A URL that a server named, if we may use it. What names a host is checked again when it is resolved.
pub fn checked(text: &str, reach: Reach) -> Result<Url, String> {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(120).collect();
    let refuse = |why: &str| Err(format!("the URL `{shown}` is refused: {why}"));
    if text.len() > URL_BYTES_MAX {
        return refuse("it is too long");
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refuse("it holds blanks or control characters");
    }
    let Ok(url) = Url::parse(text) else { return refuse("it cannot be read") };
    let Some(host) = url.host() else { return refuse("it names no host") };
    let inside = match host {
        Host::Domain(name) if is_localhost(name) => Some(Reach::Loopback),
        Host::Domain(_) => Some(Reach::Public),
        Host::Ipv4(address) => needed_v4(address),
        Host::Ipv6(address) => needed_v6(address),
    };
    match url.scheme() {
        "https" => {}
        "http" if inside == Some(Reach::Loopback) && reach == Reach::Loopback => {}
        "http" => return refuse("it is not https"),
        _ => return refuse("it is neither https nor http"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("it holds a name or a password");
    }
    if matches!(url.host(), Some(Host::Domain(name)) if name.contains(|c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c)))
    {
        return refuse("its host is no name");
    }
    if url.fragment().is_some() {
        return refuse("it holds a fragment");
    }
    if inside.is_none_or(|inside| inside > reach) {
        return refuse("it leads to an address inside, and the server is outside");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t9_addresses_by_the_registry() {
        use Reach::{Loopback, Private, Public};
        let check = |text: &str, expected: Option<Reach>| {
            assert_eq!(needed(text.parse().unwrap()), expected, "{text}");
        };
        for public in ["8.8.8.8", "1.1.1.1", "100.63.0.1", "172.32.0.1", "192.0.1.1", "2606:4700::1111"] {
            check(public, Some(Public));
        }
        for private in
            ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "fc00::1", "fec0::1", "::ffff:10.0.0.1"]
        {
            check(private, Some(Private));
        }
        for here in ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"] {
            check(here, Some(Loopback));
        }
        for nowhere in [
            "0.0.0.0",
            "169.254.169.254",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2001:2::1",
            "2001:20::1",
            "3fff::1",
            "5f00::1",
            "100::1",
            "::a9fe:a9fe",
            "::127.0.0.1",
            "::ffff:169.254.1.1",
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "64:ff9b::a9fe:a9fe",
        ] {
            check(nowhere, None);
        }
        check("2002:808:808::1", Some(Public));
        check("64:ff9b::808:808", Some(Public));
        check("64:ff9b:1::1", Some(Private));
    }

    #[test]
    fn t8_a_corpus_of_urls() {
        let refused = |reach: Reach, urls: &[&str]| {
            for url in urls {
                assert!(checked(url, reach).is_err(), "{url} at {reach:?}");
            }
        };
        refused(
            Reach::Loopback,
            &[
                "",
                " ",
                "javascript:alert(1)",
                "JavaScript:alert(1)",
                "java\nscript:alert(1)",
                "data:text/html,x",
                "file:///etc/passwd",
                "file://host/x",
                "ftp://a/",
                "ws://a/",
                "vbscript:x",
                "about:blank",
                "blob:https://a/x",
                "view-source:https://a",
                "chrome://settings",
                "ms-settings:x",
                "smb://a/b",
                "ssh://a",
                "tel:1",
                "mailto:a@b",
                "intent://a#Intent;end",
                "-flag",
                "--help",
                "/path",
                "//host/path",
                "https:",
                "https://",
                "http:///",
                "https://a b/",
                "https://a/b c",
                "https://a/\u{0}",
                "https://a/\r\nX: y",
                "https://user@a/",
                "https://user:pass@a/",
                "https://a/#fragment",
                "http://a.example/",
                "http://10.0.0.1/",
                "https://169.254.169.254/",
                "https://[fe80::1]/",
                "https://0.0.0.0/",
                "https://[::]/",
                "$(id)",
                "`id`",
                "https://a;id",
                "a | b",
                "https://[::ffff:169.254.169.254]/",
                "https://2852039166/",
                "https://0xa9fea9fe/",
                "https://0251.0376.0251.0376/",
            ],
        );
        refused(
            Reach::Public,
            &[
                "http://localhost/",
                "https://localhost/",
                "https://a.localhost/",
                "https://LOCALHOST./",
                "https://127.0.0.1/",
                "https://127.1/",
                "https://2130706433/",
                "https://0x7f.1/",
                "https://[::1]/",
                "https://[::ffff:127.0.0.1]/",
                "https://10.0.0.1/",
                "https://192.168.0.1/",
                "https://[fd00::1]/",
                "https://[2002:7f00:1::]/",
                "https://[64:ff9b::a00:1]/",
                "http://127.0.0.1:8080/",
            ],
        );
        refused(Reach::Private, &["http://10.0.0.1/", "https://127.0.0.1/", "http://localhost/"]);
        assert!(checked(&format!("https://a/{}", "x".repeat(5000)), Reach::Public).is_err());
        for (url, reach) in [
            ("https://a.example/b?c=d", Reach::Public),
            ("https://8.8.8.8/", Reach::Public),
            ("https://10.0.0.1/", Reach::Private),
            ("http://localhost:3000/x", Reach::Loopback),
            ("http://127.0.0.1:3000/x", Reach::Loopback),
            ("http://[::1]:3000/x", Reach::Loopback),
            ("https://a.example/", Reach::Loopback),
        ] {
            assert!(checked(url, reach).is_ok(), "{url} at {reach:?}");
        }
        // What is opened is what was parsed.
        assert_eq!(
            checked("https://a.example/x\"'`&$(id)", Reach::Public).unwrap().as_str(),
            "https://a.example/x%22'%60&$(id)"
        );
    }

    #[test]
    fn a_name_reaches_inside_only_with_all_its_addresses() {
        let of = |all: &[&str]| of_addresses(all.iter().map(|text| text.parse().unwrap()));
        assert_eq!(of(&[]), Reach::Public);
        assert_eq!(of(&["10.0.0.1", "8.8.8.8"]), Reach::Public);
        assert_eq!(of(&["127.0.0.1", "10.0.0.1"]), Reach::Private);
        assert_eq!(of(&["127.0.0.1", "::1"]), Reach::Loopback);
        assert_eq!(of(&["127.0.0.1", "169.254.1.1"]), Reach::Public);
    }
}
