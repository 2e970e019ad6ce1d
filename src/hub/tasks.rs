//! Who owns a task of a server that everybody shares.
//!
//! A task's id works like a key, so it opens only for the principal whose call made it; a foreign one is answered
//! exactly like an unknown one (2025-11-25, basic/utilities/tasks; SEP-2663).

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use crate::wire::object::Object;

/// The extension's name in capabilities.
pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";
/// Tasks of one upstream that are remembered; the oldest goes first.
const TASKS_MAX: usize = 10_000;

/// Tasks and their owners.
#[derive(Default)]
pub struct TaskOwners(Mutex<Owners>);

#[derive(Default)]
struct Owners {
    by_task: HashMap<String, String>,
    oldest: VecDeque<String>,
}

impl TaskOwners {
    /// Remembers the owner of the task that a result announces, if it does.
    pub fn learn(&self, result: &str, principal: &str) {
        let Some(result) = Object::read(result) else { return };
        let Some(task) = result.string("taskId").filter(|_| result.string("resultType").as_deref() == Some("task"))
        else {
            return;
        };
        let mut owners = self.owners();
        if owners.by_task.insert(task.clone(), principal.to_owned()).is_none() {
            owners.oldest.push_back(task);
        }
        if owners.oldest.len() > TASKS_MAX
            && let Some(oldest) = owners.oldest.pop_front()
        {
            owners.by_task.remove(&oldest);
        }
    }

    pub fn owns(&self, task: &str, principal: &str) -> bool {
        self.owners().by_task.get(task).is_some_and(|owner| owner == principal)
    }

    fn owners(&self) -> std::sync::MutexGuard<'_, Owners> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Is this a method of the extension?
pub fn is_method(method: &str) -> bool {
    matches!(method, "tasks/get" | "tasks/update" | "tasks/cancel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p59_a_task_is_its_makers_alone() {
        let owners = TaskOwners::default();
        owners.learn(r#"{"resultType":"task","taskId":"t"}"#, "ann");
        owners.learn(r#"{"resultType":"complete","taskId":"u"}"#, "ann");
        assert!(owners.owns("t", "ann"));
        assert!(!owners.owns("t", "bob") && !owners.owns("u", "ann") && !owners.owns("v", "ann"));
        for number in 0..TASKS_MAX {
            owners.learn(&format!(r#"{{"resultType":"task","taskId":"{number}"}}"#), "bob");
        }
        assert!(!owners.owns("t", "ann") && owners.owns("0", "bob"), "the oldest is forgotten");
    }
}
