//! The `interflow` binary; see `interflow::cli`.

fn main() -> std::process::ExitCode {
    interflow::cli::main()
}
