//! The lines of upstreams for `hubward logs`: the last ones, and those that come.
//!
//! Who follows a name follows it through restarts, reloads, and its removal: it may come back. Who follows all hears
//! new names too. Where nothing is to be said, a sign of life is.

use std::{sync::Arc, time::Duration};

use futures_util::future::{self, select_all};
use serde_json::{Value, json};

use super::{
    command::find,
    serve::{Answer, Desk},
};
use crate::{
    hub::routes::Route,
    observe::{
        journal::{Follower, Line, News},
        shelf::timestamp,
    },
};

/// How often it is looked which upstreams there are.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks after which a silent hub gives a sign of life; the client has patience for many more.
const SILENCE_MAX: u32 = 20;

/// A name, and the follower of its lines.
type Followed = (String, Follower);

pub(super) async fn run(
    desk: &Desk,
    upstream: Option<&str>,
    lines: usize,
    follow: bool,
    answer: &mut Answer,
) -> Result<(), String> {
    let _place = match follow {
        true => Some(desk.followers.try_acquire().map_err(|_| "too many follow already: end one of them".to_owned())?),
        false => None,
    };
    let routes = match upstream {
        Some(upstream) => vec![find(desk, upstream)?],
        None => desk.house.table.load().by_name.values().cloned().collect(),
    };
    let mut all: Vec<Followed> = routes.iter().map(|route| begin(route, lines)).collect();
    let mut last: Vec<(String, Line)> = Vec::new();
    for (name, follower) in &mut all {
        let news = follower.look().into_iter().flat_map(|news| news.lines);
        last.extend(news.map(|line| (name.clone(), line)));
    }
    last.sort_by_key(|(_, line)| line.time);
    for (name, line) in last.iter().skip(last.len().saturating_sub(lines)) {
        answer.say(&shown(name, line)).await;
    }
    let mut silent = 0;
    while follow && !answer.is_gone() {
        silent += 1;
        if let Ok((name, News { lost, lines })) = tokio::time::timeout(LOOK_EVERY, next(&mut all)).await {
            silent = 0;
            if lost > 0 {
                answer.say(&json!({ "upstream": name, "lost": lost })).await;
            }
            for line in &lines {
                answer.say(&shown(&name, line)).await;
            }
        }
        // Each has its turn to be the first.
        let turn = all.len().min(1);
        all.rotate_left(turn);
        if silent == SILENCE_MAX {
            silent = 0;
            answer.live().await;
        }
        refresh(desk, upstream, &mut all);
    }
    Ok(())
}

fn begin(route: &Arc<Route>, lines: usize) -> Followed {
    (route.name.to_string(), route.serving.journal.follow(lines))
}

/// The next lines of any of them.
async fn next(all: &mut [Followed]) -> (String, News) {
    if all.is_empty() {
        return future::pending().await;
    }
    let each = all.iter_mut().map(|(name, follower)| Box::pin(async move { (name.clone(), follower.next().await) }));
    select_all(each).await.0
}

/// What is there anew is followed from its first line on.
fn refresh(desk: &Desk, upstream: Option<&str>, all: &mut Vec<Followed>) {
    let table = desk.house.table.load();
    for (name, route) in table.by_name.iter().filter(|(name, _)| upstream.is_none_or(|only| name.as_str() == only)) {
        let same = |(known, follower): &Followed| known == name.as_str() && follower.is_of(&route.serving.journal);
        if !all.iter().any(same) {
            all.retain(|(known, _)| known != name.as_str());
            all.push(begin(route, usize::MAX));
        }
    }
}

fn shown(upstream: &str, line: &Line) -> Value {
    json!({
        "time": timestamp(line.time), "upstream": upstream, "pid": line.pid,
        "kind": line.kind.as_str(), "text": &*line.text,
    })
}
