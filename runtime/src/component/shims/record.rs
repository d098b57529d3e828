//! The memory that shims and host share: offsets in bytes.
//!
//! A task is known by the offset of its record. The record at offset 0 stands for "no task" and is never handed out.
//! This layout is the only contract between the generated code and the host.

/// Component instance of the task.
pub const INSTANCE: u32 = 0;
/// What `task.return` must present; 0 if nothing may be presented (sync lift). One more than the plan's position.
pub const RETURN_SIGNATURE: u32 = 4;
/// 1 once the task has returned or acknowledged its cancellation (the specification's RESOLVED).
pub const RESOLVED: u32 = 8;
/// Where the caller wants the result (`MODE_RETPTR`).
pub const RETPTR: u32 = 12;
/// The flat result of a sync-lowered call, 8 bytes.
pub const RESULT: u32 = 16;
/// Where the caller wants the result (`MODE_RETPTR64`), 8 bytes: such a call has no flat result.
pub const RETPTR64: u32 = RESULT;
/// Table slot of the adapter's `return` function.
pub const RETURN_SLOT: u32 = 24;
/// How results travel, `MODE_*`.
pub const MODE: u32 = 28;
/// The task that was running when this one was entered; 0 for the host's event loop.
pub const PARENT: u32 = 32;
/// Next free record.
pub const NEXT: u32 = 36;
/// What is known of the task from the start, `FLAG_*`; in the place of `NEXT`, which only a free record has.
pub const FLAGS: u32 = NEXT;
/// The two context slots, 4 bytes each.
pub const CONTEXT: u32 = 40;
/// Borrowed handles that the task has not dropped yet.
pub const BORROWS: u32 = 48;
/// One more than the host's entry for the task; 0 while only shims know it.
pub const HOST: u32 = 52;
/// One more than the host's entry for the thread whose record this is; 0 if it has none.
pub const THREAD: u32 = 56;
/// The record of the task, if this one belongs to a thread that a guest made; 0 otherwise.
pub const TASK: u32 = 60;
/// Size of a record.
pub const SIZE: u32 = 64;

/// The function is of async type. A task without this flag must return before anybody outside of its instance runs.
pub const FLAG_ASYNC: u32 = 1;
/// The pump, or whoever drives a stack, tells the host when the task's code has ended; else its caller's shim looks after it.
pub const FLAG_DETACHED: u32 = 2;
/// Nothing is below the task on its stack.
pub const FLAG_BASE: u32 = 4;
/// Nothing else was to be run when the task began: the pump may end with its code, and leave the rest to the host.
pub const FLAG_LAST: u32 = 8;

/// No result.
pub const MODE_NONE: u32 = 0;
/// `return` gives one flat result of type i32 (then i64, f32, f64), kept in `RESULT`.
pub const MODE_FLAT_I32: u32 = 1;
/// See `MODE_FLAT_I32`.
pub const MODE_FLAT_I64: u32 = 2;
/// See `MODE_FLAT_I32`.
pub const MODE_FLAT_F32: u32 = 3;
/// See `MODE_FLAT_I32`.
pub const MODE_FLAT_F64: u32 = 4;
/// `return` writes through `RETPTR`.
pub const MODE_RETPTR: u32 = 5;
/// `return` writes through `RETPTR64`: the caller has 64-bit pointers.
pub const MODE_RETPTR64: u32 = 7;
/// The caller is the host: it lifts the result itself.
pub const MODE_HOST: u32 = 6;

/// Header: the current task.
pub const CURRENT: u32 = 64;
/// Header: first free record, 0 if none.
pub const FREE: u32 = 68;
/// Header: the stack that runs, by its slot in the table of stacks; 0 for the host's own.
pub const FIBER: u32 = 72;
/// Header: the stack that runs as soon as this one is put aside; 0 if whoever resumed this one goes on.
pub const SWITCH_TO: u32 = 76;
/// Header: how many drivers are on each other's stacks, the pump's included.
pub const NESTED: u32 = 80;
/// Header: one more than the job that the next idle stack is to run; 0 if it is to ask the host.
pub const JOB: u32 = 84;
/// Header: the record of that job, and its three arguments.
pub const JOB_RECORD: u32 = 88;
/// See `JOB_RECORD`.
pub const JOB_ARGUMENTS: u32 = 92;
/// Header: 1 if the code that a caller's shim has started on another stack has ended, and its code.
pub const DONE: u32 = 104;
/// See `DONE`.
pub const CODE: u32 = 108;
/// Header: how many idle stacks are in `IDLE`. Those that have no room there are known to the host alone.
pub const IDLE_COUNT: u32 = 112;
/// Header: a stack that a built-in wants driven before it goes on; 0 if none.
pub const DRIVE: u32 = 116;
/// Header: who was the current task before the one that `DRIVE` runs.
pub const CALLER: u32 = 124;
/// Behind the arguments of jobs: 1 if the pump has nothing to do any more.
pub const RESTS: u32 = 264;
/// Header: the record whose code was the last that the pump ran, if the host has not been told that it has ended; 0 if it has. And
/// its code.
pub const ENDED: u32 = 268;
/// See `ENDED`.
pub const ENDED_CODE: u32 = 272;
/// Header: 1 if a call to the host has to wait.
pub const BLOCKED: u32 = 120;
/// Arguments and results of jobs, `SCRATCH_SLOTS` of 8 bytes.
pub const SCRATCH: u32 = 128;
/// 16 flat parameters, and a return pointer.
pub const SCRATCH_SLOTS: u32 = 17;
/// Header: idle stacks, that which was used last at the end. As many as calls are within each other before the host has to be asked
/// for stacks.
pub const IDLE: u32 = 276;
/// See `IDLE`.
pub const IDLE_MAX: u32 = 24;
/// First instance word.
pub const INSTANCES: u32 = 384;
/// Size of an instance's words: its gate, and whether it may not be left.
pub const INSTANCE_SIZE: u32 = 8;

/// Gate bit: a task of the instance is on the stack and holds its exclusivity.
pub const GATE_EXCLUSIVE: u32 = 1;
/// Gate bit: `backpressure` is above 0.
pub const GATE_BACKPRESSURE: u32 = 2;
/// Gate bit: calls wait to enter; who comes now waits behind them.
pub const GATE_WAITERS: u32 = 4;

/// Gate bit: tasks that have events wait for the exclusivity.
pub const GATE_HELD: u32 = 8;
/// Gate bit: the host wants to be asked for every call of async type, to take note of it.
pub const GATE_WATCHED: u32 = 16;

/// Offset of the gate of `instance`.
pub fn gate(instance: u32) -> u32 {
    INSTANCES + instance * INSTANCE_SIZE
}

/// Offset of the word that says whether `instance` may not be left now (CanonicalABI.md, `ComponentInstance.may_leave`).
pub fn may_not_leave(instance: u32) -> u32 {
    gate(instance) + 4
}

/// Offset of the first record with `instances` instances.
pub fn first(instances: u32) -> u32 {
    (INSTANCES + instances * INSTANCE_SIZE).next_multiple_of(SIZE)
}

/// Pages of the shared memory at start.
pub fn initial_pages(instances: u32) -> u64 {
    u64::from((first(instances) + 64 * SIZE).div_ceil(65536))
}
/// Pages at most: about a million tasks.
pub const PAGES_MAX: u64 = 1024;
