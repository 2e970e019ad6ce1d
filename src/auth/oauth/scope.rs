//! Which scopes to ask for. Pure.

/// The most scopes of one request.
const SCOPES_MAX: usize = 100;
/// What makes some servers give a refresh token.
const OFFLINE: &str = "offline_access";

/// The scopes of a space-separated list; what is no scope by RFC 6749 is left out.
#[must_use]
pub fn split(text: &str) -> Vec<String> {
    let is_scope = |scope: &&str| scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    text.split(' ').filter(|scope| !scope.is_empty()).filter(is_scope).map(str::to_owned).collect()
}

/// What is known about the scopes that a request needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// The configuration's.
    pub configured: Option<&'a [String]>,
    /// Those of the challenge.
    pub challenged: Option<&'a str>,
    /// The challenge says that they are missing: the configuration's are not enough.
    pub missing: bool,
    /// Those of the resource's metadata.
    pub resource: Option<&'a [String]>,
    /// What a token of the same issuer had before. It is asked for again, so that nothing is lost.
    pub before: &'a [String],
    /// What the authorization server knows.
    pub issuer: &'a [String],
}

/// What to ask for; nothing: leave it to the authorization server.
#[must_use]
pub fn wanted(known: Known<'_>) -> Vec<String> {
    let challenged = known.challenged.map(split).unwrap_or_default();
    let mut wanted = match known.configured {
        Some(configured) if known.missing => [configured, &challenged].concat(),
        Some(configured) => configured.to_vec(),
        None if !challenged.is_empty() => challenged,
        None => known.resource.unwrap_or_default().to_vec(),
    };
    wanted.extend_from_slice(known.before);
    if !wanted.is_empty() && known.configured.is_none() && known.issuer.iter().any(|scope| scope == OFFLINE) {
        wanted.push(OFFLINE.to_owned());
    }
    let mut unique: Vec<String> = Vec::new();
    for scope in wanted.iter().flat_map(|scope| split(scope)) {
        if unique.len() < SCOPES_MAX && !unique.contains(&scope) {
            unique.push(scope);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p68_scopes_by_priority() {
        let list = |text: &str| split(text);
        let check =
            |configured: Option<&str>, challenged, missing, resource: Option<&str>, before, issuer, expected: &str| {
                let (configured, resource) = (configured.map(list), resource.map(list));
                let known = Known {
                    configured: configured.as_deref(),
                    challenged,
                    missing,
                    resource: resource.as_deref(),
                    before: &list(before),
                    issuer: &list(issuer),
                };
                assert_eq!(wanted(known).join(" "), expected);
            };
        check(None, None, false, None, "", "", "");
        check(None, None, false, None, "", "offline_access", "");
        check(None, Some("a b"), false, Some("c"), "", "", "a b");
        check(None, None, false, Some("c d"), "", "", "c d");
        check(None, Some(""), false, Some("c"), "", "", "c");
        check(None, Some("a"), false, Some("c"), "", "a offline_access", "a offline_access");
        check(None, Some("a offline_access"), false, None, "", "offline_access", "a offline_access");
        check(None, Some("write"), true, Some("profile"), "basic", "", "write basic");
        check(None, Some("a a"), true, None, "a", "", "a");
        check(Some("x"), Some("a"), false, Some("c"), "", "offline_access", "x");
        check(Some("x"), Some("a"), true, Some("c"), "", "", "x a");
        check(None, Some("a \"b\" c\\d e"), false, None, "", "", "a e");
    }
}
