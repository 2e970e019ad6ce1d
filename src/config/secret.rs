//! What came into an upstream's configuration by `${env:}` and `${file:}`, so that it can be struck out of what callers
//! are told: a program may print its own key.

use super::{Auth, RemoteConfig, Text, UpstreamConfig};

impl UpstreamConfig {
    /// A text of the upstream's own, without the secrets that it was given.
    pub fn masked(&self, text: &str) -> String {
        let mut secrets: Vec<&str> = self.texts().into_iter().flat_map(Text::secrets).collect();
        // One may be a part of another.
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }

    /// All that may hold a reference.
    fn texts(&self) -> Vec<&Text> {
        let mut all: Vec<&Text> = [&self.command].into_iter().chain(&self.args).chain(self.env.values()).collect();
        all.extend(self.remote.iter().flat_map(RemoteConfig::texts));
        all
    }
}

impl RemoteConfig {
    /// What must not be told of it.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets: Vec<String> = self.texts().into_iter().flat_map(Text::secrets).map(str::to_owned).collect();
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }

    fn texts(&self) -> Vec<&Text> {
        let mut all: Vec<&Text> = [&self.url].into_iter().chain(self.headers.values()).chain(&self.proxy).collect();
        match &self.auth {
            Auth::Auto => {}
            Auth::Basic { username, password } | Auth::Digest { username, password } => {
                all.extend([username, password])
            }
            Auth::OAuth(oauth) => {
                let texts = [&oauth.client_id, &oauth.client_secret, &oauth.client_metadata_url];
                all.extend(texts.into_iter().flatten());
            }
            Auth::ClientCredentials(own) => {
                all.push(&own.client_id);
                all.extend([&own.token_url, &own.client_secret, &own.private_key].into_iter().flatten());
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn what_came_from_outside_the_file_is_struck_out_wherever_it_stood() {
        let toml = "[upstreams.a]\ncommand = 'x'\nargs = ['--key=${env:KEY}']\nenv = { A = '${env:LONG}', B = 'plain' }\n\
                    [upstreams.b]\nurl = 'http://h/?k=${env:KEY}'\nheaders = { X = 'Bearer ${env:HEAD}' }\n\
                    auth = { basic = { username = 'u', password = '${env:PASS}' } }\n";
        let env = |name: &str| match name {
            "KEY" => Some("k3y".to_owned()),
            "LONG" => Some("more-than-k3y\nand-a-second-line".to_owned()),
            "PASS" => Some("pa55".to_owned()),
            "HEAD" => Some("more-than-k3y".to_owned()),
            _ => None,
        };
        let parsed = super::super::parse(toml, Path::new("/"), &env);
        let (config, _) = parsed.unwrap_or_else(|errors| panic!("{errors:?}"));
        let masked = |name: &str, text: &str| {
            config.upstreams.iter().find(|(known, _)| known.as_str() == name).unwrap().1.masked(text)
        };
        assert_eq!(masked("a", "plain: k3y (more-than-k3y) and-a-second-line pa55"), "plain: *** (***) *** pa55");
        assert_eq!(masked("b", "u sent k3y, more-than-k3y, pa55"), "u sent ***, ***, ***");
    }
}
