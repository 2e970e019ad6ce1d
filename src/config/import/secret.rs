//! What of a client's file is probably secret: by its name, by its form.
//!
//! Too much costs a small file more; too little leaves a key where it is read over a shoulder. So in doubt it is one.

/// Words of names.
const NAMES: [&str; 24] = [
    "token",
    "key",
    "apikey",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "pass",
    "pwd",
    "pat",
    "auth",
    "authorization",
    "credential",
    "credentials",
    "cookie",
    "bearer",
    "dsn",
    "jwt",
    "webhook",
    "private",
    "accesskey",
    "authtoken",
    "pin",
    "sig",
];

/// How the tokens of well-known services begin.
const PREFIXES: [&str; 40] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "sk-",
    "sk_",
    "rk_",
    "pk_live_",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xoxe",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "eyJ",
    "npm_",
    "pypi-",
    "dop_v1_",
    "hf_",
    "SG.",
    "shpat_",
    "lin_api_",
    "ntn_",
    "secret_",
    "figd_",
    "tvly-",
    "pplx-",
    "gsk_",
    "xai-",
    "r8_",
    "dckr_pat_",
    "ATATT",
    "sbp_",
    "phx_",
];

/// Shorter words are no tokens.
const TOKEN_CHARS_MIN: usize = 20;

/// Whether what is called so is secret. A path, a switch or a small number is none.
pub(super) fn is_named(name: &str, value: &str) -> bool {
    let harmless = value.is_empty()
        || value.len() <= 6 && value.bytes().all(|b| b.is_ascii_digit())
        || matches!(value.to_ascii_lowercase().as_str(), "true" | "false" | "none" | "yes" | "no" | "on" | "off");
    let words = words(name);
    let place =
        words.last().is_some_and(|last| matches!(last.as_str(), "file" | "path" | "dir" | "url" | "credentials"))
            && (value.starts_with(['/', '~', '.']) || value.contains("://") && !has_password(value));
    let connection = words.windows(2).any(|pair| pair == ["connection", "string"]);
    !harmless && !place && (connection || words.iter().any(|word| NAMES.contains(&word.as_str())))
}

/// Whether a text gives itself away.
pub(super) fn is_value(text: &str) -> bool {
    let token = |word: &str| {
        let known = PREFIXES.iter().any(|prefix| word.len() >= prefix.len() + 8 && word.starts_with(prefix));
        known || word.split(['-', '_']).any(is_random)
    };
    has_password(text) || text.split([' ', '\t', '\n', ',', ';', '"', '\'', '=', ':', '&', '?', '/']).any(token)
}

/// `scheme://user:password@host`
pub(super) fn has_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    user.split_once(':').is_some_and(|(_, password)| !password.is_empty())
}

/// Letters of both cases and digits, or many hexadecimal digits, without a break: nobody types that.
fn is_random(word: &str) -> bool {
    let has = |test: fn(&u8) -> bool| word.as_bytes().iter().any(test);
    let hex = word.len() >= 32 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+');
    let mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    hex && has(u8::is_ascii_digit) || word.len() >= TOKEN_CHARS_MIN && plain && mixed
}

/// `GITHUB_TOKEN`, `x-api-key`, `apiKey`: the words, small.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut small = false;
    for c in name.chars().take(200) {
        if !c.is_ascii_alphanumeric() || c.is_ascii_uppercase() && small {
            words.push(String::new());
        }
        small = c.is_ascii_lowercase() || c.is_ascii_digit();
        if let (true, Some(last)) = (c.is_ascii_alphanumeric(), words.last_mut()) {
            last.push(c.to_ascii_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_so() {
        for (name, value, expected) in [
            ("GITHUB_TOKEN", "x", true),
            ("githubToken", "x", true),
            ("X-Api-Key", "x", true),
            ("POSTGRES_CONNECTION_STRING", "x", true),
            ("MAX_TOKENS", "9", false),
            ("MONKEY", "x", false),
            ("API_KEY", "", false),
            ("AUTH", "true", false),
            ("KEY_FILE", "/etc/key", false),
            ("GOOGLE_APPLICATION_CREDENTIALS", "/home/a/k.json", false),
            ("AUTH_URL", "https://a.example", false),
            ("AUTH_URL", "https://a:b@a.example", true),
        ] {
            assert_eq!(is_named(name, value), expected, "{name}={value}");
        }
    }

    #[test]
    fn texts_that_give_themselves_away() {
        for (text, expected) in [
            ("ghp_abcdefgh12345678", true),
            ("Bearer sk-abcdefghijkl", true),
            ("postgres://u:p@h/d", true),
            ("postgres://u@h/d", false),
            ("0123456789abcdef0123456789abcdef", true),
            ("aB3dE6gH9jK2mN5pQ8sT", true),
            ("@modelcontextprotocol/server-filesystem@2026.8.31", false),
            ("/home/ada/Projects/some-long-Name-42", false),
            ("/home/ada/My-Projects-Folder-of-2026", false),
            ("mcp-server-time", false),
        ] {
            assert_eq!(is_value(text), expected, "{text}");
        }
    }
}
