//! Worlds that differ only in names nobody sees are one.
//! The tables of the model's own objects give out indices in the order in which things happen, and so does the host's table of
//! handles. When a log doesn't say in which order the host did something, that makes many worlds of one. Here they get the
//! same names, by what guests can tell of them: instance, index, how manieth body.
//! Knows nothing of what objects do. Two worlds that are the same may keep different names: then both are explored.

use crate::elem::{InstanceId, Ty};
use crate::stream::CopyState;
use crate::table::{SetId, SharedId, Table, TaskId, ThreadId, WaitableId};
use crate::task::SubtaskState;
use crate::thread::{Park, ThreadState, Until};
use crate::waitable::WaitableKind;
use crate::world::{Entry, Frame, World};

/// New names, by old name; 0 for what is gone.
struct Names(Vec<u32>);

impl Names {
    /// In the order of the keys.
    fn new<T, K: Ord>(table: &Table<T>, key: impl Fn(u32, &T) -> K) -> Names {
        let mut keys: Vec<(K, u32)> = table.iter().map(|(id, entry)| (key(id, entry), id)).collect();
        keys.sort_unstable();
        let mut names = vec![0; keys.iter().map(|(_, id)| *id as usize + 1).max().unwrap_or(0)];
        for (name, (_, id)) in (1..).zip(keys) {
            names[id as usize] = name;
        }
        Names(names)
    }

    fn of(&self, old: u32) -> u32 {
        self.0.get(old as usize).copied().unwrap_or(0)
    }

    fn rename(&self, old: &mut u32) {
        *old = self.of(*old);
    }

    /// The table with its entries under their new names.
    fn sort<T>(&self, table: &mut Table<T>) {
        let old = std::mem::take(table);
        let mut entries: Vec<(u32, T)> = old.into_entries().map(|(id, entry)| (self.of(id), entry)).collect();
        entries.sort_unstable_by_key(|(name, _)| *name);
        for (_, entry) in entries {
            table.add(entry);
        }
    }
}

impl World {
    /// The same world, with names that don't tell how it came about.
    pub(crate) fn canonical(mut self) -> World {
        self.rename_host_handles();
        let threads =
            Names::new(&self.threads, |id, thread| (self.instance_of(ThreadId(id)), thread.run, thread.pc, id));
        let waitables = Names::new(&self.waitables, |id, w| (w.index == 0, w.inst, w.index, id));
        let tasks = Names::new(&self.tasks, |id, task| {
            let thread = task.threads.iter().map(|t| threads.of(t.0)).min();
            (thread, task.caller.map(|w| waitables.of(w.0)), id)
        });
        let shared = Names::new(&self.shared, |id, shared| (shared.ends.map(|end| end.map(|w| waitables.of(w.0))), id));
        let set_index = |set: u32| {
            let mut handles = self.instances.iter().flat_map(|inst| inst.handles.iter());
            handles.position(|(_, entry)| matches!(entry, Entry::Set(s) if s.0 == set))
        };
        let sets = Names::new(&self.sets, |id, _| (set_index(id), id));
        let all = All { threads, waitables, tasks, shared, sets };
        all.apply(&mut self);
        self
    }

    /// The host's handles in the order of the slots that name them. Slots that name what is gone are empty.
    fn rename_host_handles(&mut self) {
        let host = &mut self.instances[InstanceId::HOST.index()];
        let slots = host.slots;
        let slot = |i: u32| slots.iter().position(|value| *value == i).unwrap_or(slots.len());
        let names = Names::new(&host.handles, |i, _| (slot(i), i));
        let ever = host.handles.next_index();
        for value in host.slots.iter_mut().filter(|value| **value < ever) {
            names.rename(value);
        }
        names.sort(&mut host.handles);
        let tasks = &self.tasks;
        for (_, w) in self.waitables.iter_mut().filter(|(_, w)| w.inst == InstanceId::HOST) {
            names.rename(&mut w.index);
            // What is given to a call that has not started is in the table still.
            if let WaitableKind::Subtask(subtask) = &mut w.kind
                && subtask.state == SubtaskState::Starting
            {
                let params = tasks[subtask.task].func.params.into_iter().flatten();
                let given = subtask.args.iter_mut().zip(params).filter(|(_, (ty, _))| *ty != Ty::U32);
                given.for_each(|(arg, _)| names.rename(arg));
            }
        }
    }
}

/// New names of everything.
struct All {
    threads: Names,
    waitables: Names,
    tasks: Names,
    shared: Names,
    sets: Names,
}

impl All {
    fn apply(&self, world: &mut World) {
        self.threads.sort(&mut world.threads);
        self.waitables.sort(&mut world.waitables);
        self.tasks.sort(&mut world.tasks);
        self.shared.sort(&mut world.shared);
        self.sets.sort(&mut world.sets);
        for (_, thread) in world.threads.iter_mut() {
            self.tasks.rename(&mut thread.task.0);
            match &mut thread.state {
                ThreadState::Running => {}
                ThreadState::Suspended(park) => self.park(park),
                ThreadState::Waiting(park, until) => {
                    self.park(park);
                    self.until(until);
                }
            }
        }
        for (_, task) in world.tasks.iter_mut() {
            task.implicit.iter_mut().chain(&mut task.threads).for_each(|t| self.thread(t));
            task.caller.iter_mut().for_each(|w| self.waitable(w));
        }
        for (_, w) in world.waitables.iter_mut() {
            w.set.iter_mut().for_each(|set| self.set(set));
            match &mut w.kind {
                WaitableKind::Subtask(subtask) => self.task(&mut subtask.task),
                WaitableKind::End(end) => {
                    self.shared(&mut end.shared);
                    if end.state == CopyState::Idle && w.pending.is_none() {
                        end.buffer = Default::default();
                    }
                }
            }
        }
        for (_, set) in world.sets.iter_mut() {
            set.elems.iter_mut().for_each(|w| self.waitable(w));
            set.elems.sort_unstable();
        }
        for (_, shared) in world.shared.iter_mut() {
            shared.pending.iter_mut().chain(shared.ends.iter_mut().flatten()).for_each(|w| self.waitable(w));
        }
        for inst in &mut world.instances {
            inst.handles.iter_mut().for_each(|(_, entry)| match entry {
                Entry::Waitable(w) => self.waitable(w),
                Entry::Set(set) => self.set(set),
                Entry::Resource(handle) => handle.scope.iter_mut().for_each(|task| self.task(task)),
            });
            inst.threads.iter_mut().for_each(|(_, t)| self.thread(t));
            inst.exclusive.iter_mut().for_each(|t| self.thread(t));
        }
        world.stack.iter_mut().for_each(|frame| self.frame(frame));
        world.arrivals.iter_mut().for_each(|t| self.thread(t));
        let notes = std::mem::take(&mut world.notes).into_iter();
        world.notes = notes.map(|((ext, shared), note)| ((ext, SharedId(self.shared.of(shared.0))), note)).collect();
    }

    fn thread(&self, t: &mut ThreadId) {
        self.threads.rename(&mut t.0);
    }

    fn waitable(&self, w: &mut WaitableId) {
        self.waitables.rename(&mut w.0);
    }

    fn task(&self, task: &mut TaskId) {
        self.tasks.rename(&mut task.0);
    }

    fn set(&self, set: &mut SetId) {
        self.sets.rename(&mut set.0);
    }

    fn shared(&self, shared: &mut SharedId) {
        self.shared.rename(&mut shared.0);
    }

    fn park(&self, park: &mut Park) {
        match park {
            Park::SyncLower(w) | Park::Copy(w) | Park::SubtaskCancel(w) => self.waitable(w),
            Park::SetWait(set) | Park::CallbackWait(set) => self.set(set),
            Park::Start | Park::Enter | Park::CallbackYield | Park::Switch | Park::HostTurn => {}
        }
    }

    fn until(&self, until: &mut Until) {
        match until {
            Until::Resolved(w) | Until::Event(w) => self.waitable(w),
            Until::SetEvent(set) | Until::SetEventNoExclusive(set) => self.set(set),
            Until::Now | Until::Admitted | Until::NoExclusive | Until::Gate(_) => {}
        }
    }

    fn frame(&self, frame: &mut Frame) {
        match frame {
            Frame::Tick(_) => {}
            Frame::Thread(t) | Frame::Enter(t) => self.thread(t),
            Frame::Lift { task, subtask, .. } => {
                self.task(task);
                self.waitable(subtask);
            }
            Frame::Cancel { subtask, .. } => self.waitable(subtask),
        }
    }
}
