//! What a request's path names. Pure: bytes are compared as they came, nothing is decoded or normalised.
//!
//! So there is no second spelling of a path that could slip past a rule: `%6dcp`, `//`, `..` and the like are
//! simply other paths, which nobody serves.

/// Who may see a page of the hub's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    Anybody,
    /// Who has shown who it is, where the hub asks.
    Known,
}

/// The hub's own pages; one that ends with `/` stands for all below it. What is not here is a mount, or nothing.
pub const PAGES: [(&str, For); 6] = [
    ("/ping", For::Anybody),
    ("/healthz", For::Anybody),
    ("/readyz", For::Anybody),
    ("/.well-known/", For::Anybody),
    ("/readyz/", For::Known),
    ("/api/v1/status", For::Known),
];

/// Is this a page of the hub's own?
pub fn page(path: &str) -> Option<For> {
    let named = |page: &str| path == page || (page.ends_with('/') && path.starts_with(page));
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
    /// The path up to the leaf, without the slash before it.
    pub base: &'a str,
}

/// Finds what a path names under one of the prefixes (each `""` or `"/…"` without a slash at its end).
pub fn resolve<'a>(path: &'a str, prefixes: &[String]) -> Option<Target<'a>> {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let (base, leaf) = trimmed.rsplit_once('/')?;
    let leaf = match leaf {
        "mcp" => Leaf::Mcp,
        "sse" => Leaf::Sse,
        "message" => Leaf::Message,
        _ => return None,
    };
    prefixes.iter().find_map(|prefix| {
        let rest = base.strip_prefix(prefix.as_str())?;
        if rest.is_empty() {
            return Some(Target { name: None, leaf, base });
        }
        let name = rest.strip_prefix('/')?;
        (!name.is_empty() && !name.contains('/')).then_some(Target { name: Some(name), leaf, base })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f55_f57_a_path_has_one_spelling() {
        let prefixes = ["".to_owned(), "/servers".to_owned()];
        let find = |path| resolve(path, &prefixes).map(|target| (target.name, target.leaf, target.base));
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
        let only = ["/servers".to_owned()];
        assert_eq!(resolve("/servers/mcp", &only).map(|target| target.name), Some(None));
        assert_eq!(resolve("/time/mcp", &only), None);
        assert_eq!(resolve("/serversx/mcp", &only), None);
    }
}
