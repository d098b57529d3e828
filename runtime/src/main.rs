//! The `interflow` binary; see `interflow::cli`.

/// Connections by the hundred take and give back objects of one size in bursts, which glibc's keeps only a few of at hand.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    interflow::cli::main()
}
