//! `--tunnel`: through whose server the hub can be reached from elsewhere, and by which name.
//!
//! No key of hub.toml: it opens the hub to the world, and so it is said where the hub is started.

use url::Url;

use super::{HubConfig, address};

/// The longest name: that of one part of a host.
const NAME_MAX: usize = 63;

/// What is known of the tunnel before its server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelConfig {
    /// A pipenet server.
    pub server: Url,
    /// The name that is wanted there; without one the server makes one up.
    pub name: Option<String>,
}

impl TunnelConfig {
    /// The server that mcp-proxy has its tunnels at.
    pub const SERVER: &str = "https://tunnel.gla.ma";
}

impl HubConfig {
    /// A tunnel, where nobody would have to show who he is and nobody said that this is meant.
    pub fn bares_all(&self) -> bool {
        self.tunnel.is_some() && !self.is_guarded()
    }
}

/// A name as servers take it: 4 letters and digits at least, 6 characters where there are dashes, which stand inside.
/// They would take two more than a part of a host can have.
pub fn tunnel_name(written: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let least = if written.contains('-') { 6 } else { 4 };
    let fits = written.bytes().all(|b| plain(b) || b == b'-')
        && (least..=NAME_MAX).contains(&written.len())
        && !written.starts_with('-')
        && !written.ends_with('-');
    match fits {
        true => Ok(written.to_owned()),
        false => Err(format!(
            "such a name is 4 to {NAME_MAX} lower-case letters and digits; 6 at least where dashes stand between them"
        )),
    }
}

/// The URL of a tunnel server.
pub fn tunnel_server(written: &str) -> Result<Url, String> {
    address::public_url(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_t1_names_are_those_that_servers_take() {
        let longest = "a".repeat(63);
        for name in ["abcd", "0000", "a1b2", "team-x", "a--b-c", "calm-fish-32", &longest] {
            assert_eq!(tunnel_name(name).as_deref(), Ok(name));
        }
        let longer = "a".repeat(64);
        for name in
            ["", "abc", "a-b-c", "Team", "-abcdef", "abcdef-", "a.bcd", "a_bcd", "abcd/", "äbcd", "new?", &longer]
        {
            assert!(tunnel_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn s4_t1_a_server_is_a_url_without_credentials() {
        for url in ["https://tunnel.gla.ma", "http://127.0.0.1:3000/", "https://t.example/below"] {
            assert!(tunnel_server(url).is_ok(), "{url}");
        }
        for url in ["tunnel.gla.ma", "ftp://t.example", "https://u:p@t.example", "https://t.example/?new", ""] {
            assert!(tunnel_server(url).is_err(), "{url}");
        }
        assert!(tunnel_server(TunnelConfig::SERVER).is_ok());
    }
}
