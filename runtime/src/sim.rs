//! What stands for chance and time while schedules are explored (`explore`).
//!
//! A run is explored on one thread, and this is that thread's: who has a choice asks `Sim::choose`, who does something that a
//! reader wants to see, or that others may see, tells `Sim::note`. A schedule says which choices do not take their first
//! option; the same program with the same schedule is the same run. What each column (an instance, a client) was told and did
//! is kept as a hash: runs that agree in all of them are in the same state, however their steps were mixed.
//! Outside of exploration there is none (`current`), and who keeps that answer pays a branch.
//! Knows nothing of what is chosen.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

/// What a guest's wall clock shows when a run begins, in seconds since 1970: the first of January 2026.
const WALL_START: Duration = Duration::from_secs(1_767_225_600);

/// Choices of one run. A run that comes here goes round in circles.
const CHOICES_MAX: usize = 200_000;

/// What is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Choice {
    /// Which of what is ready in a zone runs next (CanonicalABI.md, Embedding); behind the last, whether the host goes first.
    Ready,
    /// Which task of the host goes on; behind the last, whether the next timer fires before.
    Host,
    /// Which event of a waitable set comes first (CanonicalABI.md, Waitable State).
    Event,
    /// Which of those who wait for an event of a set is told.
    Waiter,
    /// Which call at a gate is let in (CanonicalABI.md, Tasks).
    Enter,
    /// Which thread of the instance runs while a task of sync type waits (CanonicalABI.md, canon lift).
    Sibling,
    /// Which thread of a task is told of a cancellation (CanonicalABI.md, Tasks).
    Cancel,
    /// Whether a host function or a stream of the host answers at once, or after others have run.
    Answer,
    /// Whether a thread whose event is there goes on at once, or lets others run first (CanonicalABI.md, Threads).
    GoOn,
}

impl Choice {
    /// What another than the first option means, for people.
    fn told(self, pick: usize, options: usize) -> String {
        let nth = format!("{} of {options}", pick + 1);
        match self {
            Choice::Ready => format!("ready: {nth}"),
            Choice::Host => format!("host: {nth}"),
            Choice::Event => format!("event: {nth}"),
            Choice::Waiter => format!("waiter: {nth}"),
            Choice::Enter => format!("enters: {nth}"),
            Choice::Sibling => format!("sibling: {nth}"),
            Choice::Cancel => format!("cancelled: {nth}"),
            Choice::Answer => "the host answers later".to_string(),
            Choice::GoOn => "lets others run".to_string(),
        }
    }
}

/// The choices that do not take their first option: position among all choices, and option. In order of position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Schedule(Vec<(u32, u32)>);

impl Schedule {
    /// This one, and at `position`, which is behind all of its own, `option`.
    pub fn with(&self, position: u32, option: u32) -> Schedule {
        assert!(self.end() <= position, "a schedule grows at its end");
        let mut picks = Vec::with_capacity(self.0.len() + 1);
        picks.extend_from_slice(&self.0);
        picks.push((position, option));
        Schedule(picks)
    }

    /// Number of choices that do not take the first option.
    pub fn deviations(&self) -> usize {
        self.0.len()
    }

    /// The position behind the last deviation.
    pub fn end(&self) -> u32 {
        self.0.last().map_or(0, |(position, _)| position + 1)
    }

    fn pick(&self, position: usize) -> Option<u32> {
        let at = self.0.binary_search_by_key(&(position as u32), |(position, _)| *position).ok()?;
        Some(self.0[at].1)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("first");
        }
        for (n, (position, option)) in self.0.iter().enumerate() {
            write!(f, "{}{position}:{option}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Schedule, String> {
        let wrong =
            || format!("`{text}` is not a schedule: `POSITION:OPTION,..` in order, as `explore` prints it, or `first`");
        if text == "first" {
            return Ok(Schedule::default());
        }
        let mut picks: Vec<(u32, u32)> = Vec::new();
        for pick in text.split(',') {
            let (position, option) = pick.split_once(':').ok_or_else(wrong)?;
            let position: u32 = position.parse().map_err(|_| wrong())?;
            let option: u32 = option.parse().map_err(|_| wrong())?;
            let too_far = position as usize >= CHOICES_MAX;
            if too_far || option == 0 || picks.last().is_some_and(|(last, _)| position <= *last) {
                return Err(wrong());
            }
            picks.push((position, option));
        }
        Ok(Schedule(picks))
    }
}

/// Who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Column {
    /// The schedule itself.
    Choice,
    /// The client of request `n`.
    Client(u32),
    /// A script's directives.
    Script,
    /// The host's tasks and functions.
    Host,
    /// A component instance: number of its zone, and of itself in that.
    Instance(u32, u32),
}

/// Something that was done.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub column: Column,
    pub text: String,
    /// It has no part in who goes on when.
    pub detail: bool,
}

/// A run as it is.
pub(crate) struct Sim {
    schedule: Schedule,
    /// Keep rows, not only their hashes.
    traced: bool,
    /// Fires timers before their time, too.
    pub early_timers: bool,
    start: Instant,
    clock: Cell<Duration>,
    seed: Cell<u64>,
    zones: Cell<u32>,
    /// States are told apart by the order of all steps: needed where steps touch instances that are not told of them.
    exact: Cell<bool>,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    options: Vec<u32>,
    columns: BTreeMap<Column, u64>,
    /// The hash of all notes in their order.
    whole: u64,
    /// How often which of the host's futures and sources was polled: they may keep count.
    polled: u64,
    /// What was chosen in the middle of a step, of which there is no note yet.
    step: u64,
    rows: Vec<Row>,
    /// Whether it is known what comes of a state.
    known: Option<Box<dyn FnMut(u64) -> bool>>,
    stopped: Option<Stopped>,
}

/// Why a run has not been brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It has come to a state from which all has been seen.
    Known,
    /// It has made too many choices.
    Endless,
    /// The schedule has an option that there is not.
    NoSuchOption,
}

/// What a run has left.
pub(crate) struct Trace {
    /// The choices that the run has met: how many options each had, which are at least 2.
    pub options: Vec<u32>,
    pub rows: Vec<Row>,
    pub stopped: Option<Stopped>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Sim>>> = const { RefCell::new(None) };
}

/// The run that this thread explores, if it does.
pub(crate) fn current() -> Option<Rc<Sim>> {
    CURRENT.with_borrow(Clone::clone)
}

/// The time in the run that this thread explores, if it does.
pub(crate) fn now() -> Option<Instant> {
    // Timers may be dropped by destructors of other thread-locals.
    let clock = |current: &RefCell<Option<Rc<Sim>>>| current.borrow().as_ref().map(|sim| sim.start + sim.clock.get());
    CURRENT.try_with(clock).ok().flatten()
}

/// When the run that this thread explores began, if it does.
pub(crate) fn start() -> Option<Instant> {
    current().map(|sim| sim.start)
}

/// The wall clock: that of the run that this thread explores, if it does.
pub(crate) fn wall_clock() -> SystemTime {
    current().map_or_else(SystemTime::now, |sim| SystemTime::UNIX_EPOCH + WALL_START + sim.clock.get())
}

/// Ends the thread's run when it goes.
pub(crate) struct Entered(());

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

impl Sim {
    /// A run with this schedule. `known` is asked, behind the schedule's last deviation, whether it is known what comes of a
    /// state; then the run ends.
    pub fn new(schedule: Schedule, seed: u64, traced: bool, known: Option<Box<dyn FnMut(u64) -> bool>>) -> Sim {
        Sim {
            schedule,
            traced,
            early_timers: false,
            start: Instant::now(),
            clock: Cell::default(),
            seed: Cell::new(seed),
            zones: Cell::default(),
            exact: Cell::default(),
            inner: RefCell::new(Inner { known, ..Inner::default() }),
        }
    }

    /// Makes it the thread's run.
    pub fn enter(self: &Rc<Self>) -> Entered {
        let before = CURRENT.replace(Some(self.clone()));
        assert!(before.is_none(), "a thread explores one run at a time");
        Entered(())
    }

    /// What the run has left.
    pub fn finish(&self) -> Trace {
        let Inner { options, rows, stopped, .. } = std::mem::take(&mut *self.inner.borrow_mut());
        Trace { options, rows, stopped }
    }

    /// The number of a new zone.
    pub fn zone(&self) -> u32 {
        self.zones.replace(self.zones.get() + 1)
    }

    /// From here on, runs are in the same state only if all their steps were in the same order.
    pub fn tell_all_orders_apart(&self) {
        self.exact.set(true);
    }

    /// The run is not to be brought to its end.
    pub fn is_stopped(&self) -> bool {
        self.inner.borrow().stopped.is_some()
    }

    /// One of `0..options`. `rest` is what makes states differ beside what columns have seen: what is ready.
    pub fn choose(&self, choice: Choice, options: usize, rest: u64) -> usize {
        if options < 2 {
            return 0;
        }
        let mut inner = self.inner.borrow_mut();
        let position = inner.options.len();
        let begins = matches!(choice, Choice::Ready | Choice::Host);
        if begins {
            inner.step = 0;
        }
        let state = self.state(&inner, choice, options, rest);
        inner.options.push(options as u32);
        let behind = position as u32 >= self.schedule.end();
        if behind && inner.stopped.is_none() && inner.known.as_mut().is_some_and(|known| known(state)) {
            inner.stopped = Some(Stopped::Known);
        }
        if position >= CHOICES_MAX {
            inner.stopped = inner.stopped.or(Some(Stopped::Endless));
        }
        let pick = self.schedule.pick(position).unwrap_or(0) as usize;
        if !begins {
            inner.step = of_all([(inner.step, choice, pick)]);
        }
        if pick >= options {
            inner.stopped = Some(Stopped::NoSuchOption);
            return 0;
        }
        if pick > 0 && self.traced {
            let text = format!("{position}:{pick} {}", choice.told(pick, options));
            inner.rows.push(Row { column: Column::Choice, text, detail: false });
        }
        pick
    }

    fn state(&self, inner: &Inner, choice: Choice, options: usize, rest: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (choice, options, rest, self.clock.get(), inner.polled, inner.step).hash(&mut hasher);
        match self.exact.get() {
            true => inner.whole.hash(&mut hasher),
            false => inner.columns.hash(&mut hasher),
        }
        hasher.finish()
    }

    /// `column` has done or seen what `facts` say; `text` says it to people.
    pub fn note(&self, column: Column, facts: impl Hash, text: impl FnOnce() -> String) {
        self.keep(column, facts, false, text);
    }

    /// As `note`, of what has no part in who goes on when.
    pub fn note_detail(&self, column: Column, facts: impl Hash, text: impl FnOnce() -> String) {
        self.keep(column, facts, true, text);
    }

    fn keep(&self, column: Column, facts: impl Hash, detail: bool, text: impl FnOnce() -> String) {
        let inner = &mut *self.inner.borrow_mut();
        inner.step = 0;
        let mut hasher = DefaultHasher::new();
        let seen = inner.columns.entry(column).or_default();
        (*seen, &facts).hash(&mut hasher);
        *seen = hasher.finish();
        let mut hasher = DefaultHasher::new();
        (inner.whole, column, &facts).hash(&mut hasher);
        inner.whole = hasher.finish();
        if self.traced {
            inner.rows.push(Row { column, text: text(), detail });
        }
    }

    /// The host's future or source `what` is polled.
    pub fn polls(&self, what: impl Hash) {
        let inner = &mut *self.inner.borrow_mut();
        inner.polled = inner.polled.wrapping_add(of_all([what]));
    }

    /// Lets time pass.
    pub fn advance_to(&self, at: Instant) {
        let clock = at.saturating_duration_since(self.start);
        self.clock.set(self.clock.get().max(clock));
    }

    /// Bytes that look random and come again with the same seed.
    pub fn random(&self, out: &mut [u8]) {
        for bytes in out.chunks_mut(8) {
            // SplitMix64
            let seed = self.seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            self.seed.set(seed);
            let mut z = seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            bytes.copy_from_slice(&z.to_le_bytes()[..bytes.len()]);
        }
        // Who has drawn before whom makes a difference.
        let inner = &mut *self.inner.borrow_mut();
        let drawn = inner.columns.entry(Column::Host).or_default();
        *drawn = drawn.wrapping_mul(31).wrapping_add(self.seed.get());
    }
}

/// A number for a set of things, whatever their order.
pub(crate) fn of_all<T: Hash>(things: impl IntoIterator<Item = T>) -> u64 {
    let one = |thing: T| {
        let mut hasher = DefaultHasher::new();
        thing.hash(&mut hasher);
        hasher.finish()
    };
    things.into_iter().map(one).fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_reads_as_it_is_written() {
        for text in ["first", "3:1", "0:2,17:1"] {
            assert_eq!(text.parse::<Schedule>().expect("a schedule").to_string(), text);
        }
        for text in ["", "3", "3:0", "3:1,3:1", "4:1,3:1", "a:1", "1:1,", "4294967295:1"] {
            let error = text.parse::<Schedule>().expect_err("no schedule");
            assert!(error.contains("`first`"), "{text}: {error}");
        }
    }

    #[test]
    fn a_run_takes_the_first_option_except_where_its_schedule_says_otherwise() {
        let sim = Sim::new("1:2".parse().expect("a schedule"), 0, true, None);
        let picks: Vec<usize> = [2, 1, 3, 2].into_iter().map(|options| sim.choose(Choice::Event, options, 0)).collect();
        assert_eq!(picks, [0, 0, 2, 0], "what has one option is no choice");
        let trace = sim.finish();
        assert_eq!((trace.options, trace.rows.len(), trace.stopped), (vec![2, 3, 2], 1, None));
        let sim = Sim::new("0:2".parse().expect("a schedule"), 0, false, None);
        assert_eq!(sim.choose(Choice::Event, 2, 0), 0);
        assert_eq!(sim.finish().stopped, Some(Stopped::NoSuchOption));
    }

    #[test]
    fn steps_of_different_columns_may_change_places_and_those_of_one_may_not() {
        let state = |steps: &[(u32, u32)], exact: bool| {
            let seen = Rc::new(Cell::new(0));
            let kept = seen.clone();
            let known = move |state| {
                kept.set(state);
                false
            };
            let sim = Sim::new(Schedule::default(), 0, false, Some(Box::new(known)));
            if exact {
                sim.tell_all_orders_apart();
            }
            steps.iter().for_each(|(column, fact)| sim.note(Column::Client(*column), fact, String::new));
            sim.choose(Choice::Event, 2, 0);
            seen.get()
        };
        assert_eq!(state(&[(1, 7), (2, 8)], false), state(&[(2, 8), (1, 7)], false));
        assert_ne!(state(&[(1, 7), (2, 8)], true), state(&[(2, 8), (1, 7)], true));
        assert_ne!(state(&[(1, 7), (1, 8)], false), state(&[(1, 8), (1, 7)], false));
        assert_ne!(state(&[(1, 7)], false), state(&[(2, 7)], false));
    }
}
