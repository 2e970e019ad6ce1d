//! What a request's path names. Pure: bytes are compared as they came, nothing is decoded or normalised.
//!
//! So there is no second spelling of a path that could slip past a rule: `%6dcp`, `//`, `..` and the like are
//! simply other paths, which nobody serves.

use crate::config::{Face, HubConfig};

/// Who may see a page of the hub's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    Anybody,
    /// Who has shown who it is, where the hub asks.
    Known,
}

/// The hub's own pages; one that ends with `/` stands for all below it, but for the first. What is not here is a mount,
/// or nothing. A browser gets `/` before it is asked who it is, see [`dashboard`](super::dashboard).
pub const PAGES: [(&str, For); 11] = [
    ("/", For::Known),
    ("/assets/", For::Anybody),
    ("/ping", For::Anybody),
    ("/healthz", For::Anybody),
    ("/readyz", For::Anybody),
    ("/.well-known/", For::Anybody),
    ("/readyz/", For::Known),
    ("/api/v1/status", For::Known),
    ("/api/v1/events", For::Known),
    ("/api/v1/upstreams/", For::Known),
    ("/metrics", For::Known),
];

/// Is this a page of the hub's own?
pub fn page(path: &str) -> Option<For> {
    let below = |page: &str| page != "/" && page.ends_with('/') && path.starts_with(page);
    let named = |page: &str| path == page || below(page);
    PAGES.iter().find(|(page, _)| named(page)).map(|(_, who)| *who)
}

/// A place of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    Mcp,
    Sse,
    Message,
}

/// A mount and the place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// None: the default upstream.
    pub name: Option<&'a str>,
    pub leaf: Leaf,
    /// The path up to the leaf, without the slash before it; without a name, the prefix.
    pub base: &'a str,
    /// As it is typed, without a slash at its end.
    pub path: &'a str,
}

/// Finds what a path names under one of the prefixes, as far as that is served.
pub fn resolve<'a>(path: &'a str, hub: &HubConfig) -> Option<Target<'a>> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let target = hub.prefixes.iter().find_map(|prefix| {
        let rest = path.strip_prefix(prefix.as_str())?;
        let leaf = match rest {
            rest if rest == hub.mcp_path => Leaf::Mcp,
            rest if rest == hub.sse_path => Leaf::Sse,
            "/message" => Leaf::Message,
            _ => return named(path, rest),
        };
        Some(Target { name: None, leaf, base: &path[..prefix.len()], path })
    })?;
    let face = if target.leaf == Leaf::Mcp { Face::StreamableHttp } else { Face::Sse };
    hub.serves(face).then_some(target)
}

/// `/name/leaf`, behind a prefix.
fn named<'a>(path: &'a str, rest: &'a str) -> Option<Target<'a>> {
    let (name, leaf) = rest.strip_prefix('/')?.split_once('/')?;
    let base = &path[..path.len() - leaf.len() - 1];
    let leaf = match leaf {
        "mcp" => Leaf::Mcp,
        "sse" => Leaf::Sse,
        "message" => Leaf::Message,
        _ => return None,
    };
    (!name.is_empty()).then_some(Target { name: Some(name), leaf, base, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f67_the_root_is_a_page_and_not_all_below_it() {
        assert_eq!(page("/"), Some(For::Known));
        assert_eq!(page("/assets/page.css"), Some(For::Anybody));
        for path in ["/x", "/a/mcp", "/assets", "//", "", "/assetsx/page.css"] {
            assert_eq!(page(path), None, "{path}");
        }
    }

    #[test]
    fn f55_f57_a_path_has_one_spelling() {
        let hub = HubConfig { prefixes: vec!["".to_owned(), "/servers".to_owned()], ..HubConfig::default() };
        let find = |path| resolve(path, &hub).map(|target| (target.name, target.leaf, target.base));
        let cases = [
            ("/time/mcp", Some((Some("time"), Leaf::Mcp, "/time"))),
            ("/time/mcp/", Some((Some("time"), Leaf::Mcp, "/time"))),
            ("/time/sse", Some((Some("time"), Leaf::Sse, "/time"))),
            ("/time/message", Some((Some("time"), Leaf::Message, "/time"))),
            ("/servers/time/mcp", Some((Some("time"), Leaf::Mcp, "/servers/time"))),
            ("/mcp", Some((None, Leaf::Mcp, ""))),
            ("/servers/mcp", Some((Some("servers"), Leaf::Mcp, "/servers"))),
            ("/time/mcp//", None),
            ("//mcp", None),
            ("//time/mcp", None),
            ("/a/b/mcp", None),
            ("/time/MCP", None),
            ("/time/m%63p", None),
            ("/time", None),
            ("/", None),
            ("", None),
            ("mcp", None),
            ("/%2e%2e/mcp", Some((Some("%2e%2e"), Leaf::Mcp, "/%2e%2e"))),
            ("/../mcp", Some((Some(".."), Leaf::Mcp, "/.."))),
            ("/time;x/mcp", Some((Some("time;x"), Leaf::Mcp, "/time;x"))),
        ];
        for (path, expected) in cases {
            assert_eq!(find(path), expected, "{path}");
        }
        let only = HubConfig { prefixes: vec!["/servers".to_owned()], ..HubConfig::default() };
        assert_eq!(resolve("/servers/mcp", &only).map(|target| target.name), Some(None));
        assert_eq!(resolve("/time/mcp", &only), None);
        assert_eq!(resolve("/serversx/mcp", &only), None);
    }

    #[test]
    fn s4_3_s4_5_s4_6_the_default_has_paths_of_its_own_and_what_is_not_served_is_not_there() {
        let mut hub = HubConfig { mcp_path: "/stream".into(), sse_path: "/events/live".into(), ..HubConfig::default() };
        let find = |path: &'static str, hub: &HubConfig| resolve(path, hub).map(|t| (t.name, t.leaf, t.base, t.path));
        assert_eq!(find("/stream/", &hub), Some((None, Leaf::Mcp, "", "/stream")));
        assert_eq!(find("/events/live", &hub), Some((None, Leaf::Sse, "", "/events/live")));
        assert_eq!(find("/message", &hub), Some((None, Leaf::Message, "", "/message")));
        assert_eq!(find("/a/mcp", &hub), Some((Some("a"), Leaf::Mcp, "/a", "/a/mcp")));
        assert_eq!((find("/mcp", &hub), find("/sse", &hub)), (None, None));
        hub.transports = vec![Face::Sse];
        assert!(find("/stream", &hub).is_none() && find("/a/mcp", &hub).is_none() && find("/a/sse", &hub).is_some());
        hub.transports = vec![Face::StreamableHttp];
        assert!(find("/stream", &hub).is_some() && find("/a/sse", &hub).is_none() && find("/message", &hub).is_none());
    }
}
