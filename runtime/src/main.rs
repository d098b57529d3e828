//! The `interflow` binary; see `interflow::cli`.

#[global_allocator]
static ALLOCATOR: interflow::allocator::Allocator = interflow::allocator::Allocator;

fn main() -> std::process::ExitCode {
    interflow::cli::main()
}
