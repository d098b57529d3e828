//! What the benches share: samples of all contestants in turn, the table that shows them, and how servers are run.

pub mod connect;
pub mod load;
pub mod process;
pub mod samples;
pub mod table;

/// The machine that numbers are from: its processor, how many of it, and its kernel.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']).trim());
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    format!("{count} x {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}
