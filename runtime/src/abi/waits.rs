//! Who waits for whom in a zone where nothing goes on any more, for people.

use super::state::State;
use super::stream::End;
use super::table::{Kind, Slot};
use super::task::{Callee, Run, Task};

impl State {
    /// A line per task and thread that waits. `name` is what an instance is called.
    pub(crate) fn waits(&self, name: &dyn Fn(u32) -> String) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for (number, task) in &self.tasks {
            if let Some(what) = self.task_waits(task, name) {
                lines.push(format!("{}: task {number} waits {what}", name(task.instance)));
            }
        }
        lines.extend(self.waiting_threads());
        lines
    }

    fn task_waits(&self, task: &Task, name: &dyn Fn(u32) -> String) -> Option<String> {
        Some(match task.run {
            Run::Active => return None,
            Run::Entering(_) => "to enter its instance".to_string(),
            Run::Yielding => "for its turn".to_string(),
            Run::Waiting { set } => {
                let handles = &self.instances[task.instance as usize].handles;
                let whats: Vec<String> =
                    handles.members(set).map(|(handle, slot)| self.waitable(handle, slot, name)).collect();
                if whats.is_empty() { "for nothing that could come".to_string() } else { whats.join(", or ") }
            }
        })
    }

    /// What has to happen for this waitable to have an event.
    fn waitable(&self, handle: u32, slot: &Slot, name: &dyn Fn(u32) -> String) -> String {
        if slot.kind == Kind::Subtask {
            let subtask = &self.subtasks[slot.object as usize];
            let callee = match subtask.callee {
                Callee::Task(task) => name(self.tasks[task as usize].instance),
                Callee::Host(_) => "the host".to_string(),
                Callee::Gone => "somebody who is gone".to_string(),
            };
            return format!("for its call of {callee} (subtask {handle})");
        }
        let stream = &self.streams[slot.object as usize];
        let (other, does) = match slot.kind {
            Kind::StreamWrite | Kind::FutureWrite => (stream.reader, "reads"),
            _ => (stream.writer, "writes"),
        };
        let other = match other {
            End::Guest { instance, .. } => name(instance),
            End::Host => "the host".to_string(),
            End::Gone => "somebody who is gone".to_string(),
        };
        let what = if stream.future { "future" } else { "stream" };
        format!("until {other} {does} ({what} {handle})")
    }
}
