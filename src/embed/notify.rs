//! What an embedding program knows of an upstream before its clients do.

use std::sync::Arc;

use crate::hub::{
    House,
    routes::{List, Route},
};

/// Tells the clients of one upstream that something has changed, in place of the upstream, which did not notice. Nobody
/// waits for it. Each method answers how many clients are told.
///
/// Of a list they are told only where the upstream has promised that (`listChanged`), for others would not know what to
/// make of it; several changes of one kind within 250 ms are told as one (2025-11-25, server/tools). Of a resource those are
/// told that have subscribed to it, or to what it is a part of.
#[derive(Clone)]
pub struct Notify {
    pub(super) house: Arc<House>,
    pub(super) upstream: String,
}

impl Notify {
    /// There are other tools: `notifications/tools/list_changed`.
    pub fn tools_changed(&self) -> usize {
        self.tell(|route| route.announce(List::Tools))
    }

    /// There are other prompts: `notifications/prompts/list_changed`.
    pub fn prompts_changed(&self) -> usize {
        self.tell(|route| route.announce(List::Prompts))
    }

    /// There are other resources: `notifications/resources/list_changed`.
    pub fn resources_changed(&self) -> usize {
        self.tell(|route| route.announce(List::Resources))
    }

    /// A resource says something else: `notifications/resources/updated`.
    pub fn resource_updated(&self, uri: &str) -> usize {
        self.tell(|route| route.announce_update(uri))
    }

    /// The upstream may have been replaced, or removed, by a reload.
    fn tell(&self, tell: impl FnOnce(&Route) -> usize) -> usize {
        self.house.table.find(&self.upstream).map_or(0, |route| tell(&route))
    }
}
