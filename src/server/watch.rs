//! `/api/v1/events`: the status as it changes, for who has it open.
//!
//! First all there is (`hub`, an `upstream` each, `settled`), then what changes; `gone` names what was removed. Each
//! watcher sees only what it may use, as things stand when it is told.

use std::{collections::BTreeSet, collections::VecDeque, sync::Arc};

use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;

use super::{rescue::Refusal, stream as streams};
use crate::{
    access::Principal,
    config::Name,
    hub::{
        House,
        board::{Seen, Shown, Step, Watcher},
    },
};

type Event = (&'static str, Bytes);

struct Watch {
    watcher: Watcher,
    house: Arc<House>,
    principal: Principal,
    /// What this one was told of.
    known: BTreeSet<Name>,
    queue: VecDeque<Event>,
    _place: streams::Place,
}

pub fn serve(request: &HttpRequest, house: &Arc<House>, principal: &Principal) -> Result<HttpResponse, Refusal> {
    let place = streams::Place::find(house, principal)?;
    let (watcher, shown) = Watcher::new(house);
    let mut watch = Watch {
        watcher,
        house: house.clone(),
        principal: principal.clone(),
        known: BTreeSet::new(),
        queue: VecDeque::new(),
        _place: place,
    };
    watch.whole(shown);
    let events = stream::unfold(watch, |mut watch| async move { Some((watch.next().await?, watch)) });
    Ok(streams::named(request, events))
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            let told = tokio::select! {
                told = self.watcher.next() => told?,
                () = self.house.draining.cancelled() => return None,
            };
            // Who was thrown out sees nothing more.
            self.principal = self.house.gate.load().knows(&self.principal)?;
            match told {
                Ok(step) => self.step(&step),
                Err(shown) => self.whole(shown),
            }
        }
    }

    fn whole(&mut self, shown: Shown) {
        self.queue.push_back(("hub", shown.hub.text));
        // One that did not keep up may have missed an end.
        let missed: Vec<Name> =
            self.known.iter().filter(|name| !shown.upstreams.contains_key(*name)).cloned().collect();
        missed.iter().for_each(|name| self.gone(name));
        for (name, Seen { text, .. }) in shown.upstreams {
            self.upstream(name, text);
        }
        self.queue.push_back(("settled", Bytes::from_static(b"{}")));
    }

    fn step(&mut self, step: &Step) {
        self.queue.extend(step.hub.iter().map(|hub| ("hub", hub.clone())));
        step.changed.iter().for_each(|(name, text)| self.upstream(name.clone(), text.clone()));
        step.gone.iter().for_each(|name| self.gone(name));
    }

    fn upstream(&mut self, name: Name, text: Bytes) {
        let (gate, config) = (self.house.gate.load(), self.house.config.load());
        let route = self.house.table.find(name.as_str());
        let may = route.is_some_and(|route| self.house.bars(&gate, &config, &route, &self.principal).is_none());
        if !may {
            return self.gone(&name);
        }
        self.queue.push_back(("upstream", text));
        self.known.insert(name);
    }

    fn gone(&mut self, name: &Name) {
        if self.known.remove(name) {
            self.queue.push_back(("gone", json!({ "name": name.as_str() }).to_string().into()));
        }
    }
}
