//! How clients reach an upstream, and at which paths of the hub.

use super::{Config, HubConfig, Isolation};

/// What is spoken at a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    StreamableHttp,
    /// HTTP+SSE of 2024-11-05.
    Sse,
}

impl Face {
    pub(super) const WORDS: [(&str, Face); 2] = [("streamable-http", Face::StreamableHttp), ("sse", Face::Sse)];
}

impl Config {
    /// Without sessions there are none whose process could be their own.
    pub fn settled(mut self) -> Config {
        let own = self.upstreams.values_mut().filter(|upstream| upstream.isolation == Isolation::Session);
        own.filter(|_| self.hub.stateless).for_each(|upstream| upstream.isolation = Isolation::Call);
        self
    }
}

impl HubConfig {
    pub fn serves(&self, face: Face) -> bool {
        self.transports.contains(&face)
    }

    /// Where an upstream is under each prefix, as far as it is served; without a name the default one.
    pub fn paths(&self, name: Option<&str>) -> impl Iterator<Item = String> {
        let place = |own: &str, leaf: &str| name.map_or_else(|| own.to_owned(), |name| format!("/{name}/{leaf}"));
        let both = [(Face::StreamableHttp, place(&self.mcp_path, "mcp")), (Face::Sse, place(&self.sse_path, "sse"))];
        both.into_iter().filter(|(face, _)| self.serves(*face)).map(|(_, path)| path)
    }
}
