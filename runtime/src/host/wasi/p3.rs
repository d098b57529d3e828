//! The traits of WASI 0.3, generated from `wit/`; `wasi:http` has its own beside its implementation.

interflow_macros::host! {
    path: "../wit",
    interfaces: [
        "wasi:clocks/types@0.3.2",
        "wasi:clocks/monotonic-clock@0.3.2",
        "wasi:clocks/system-clock@0.3.2",
        "wasi:random/random@0.3.2",
        "wasi:random/insecure@0.3.2",
        "wasi:random/insecure-seed@0.3.2",
        "wasi:cli/types@0.3.2",
        "wasi:cli/environment@0.3.2",
        "wasi:cli/exit@0.3.2",
        "wasi:cli/stdin@0.3.2",
        "wasi:cli/stdout@0.3.2",
        "wasi:cli/stderr@0.3.2",
        "wasi:cli/terminal-input@0.3.2",
        "wasi:cli/terminal-output@0.3.2",
        "wasi:cli/terminal-stdin@0.3.2",
        "wasi:cli/terminal-stdout@0.3.2",
        "wasi:cli/terminal-stderr@0.3.2",
    ],
    with: {
        "wasi:cli/terminal-input@0.3.2/terminal-input": crate::host::wasi::terminal::TerminalInput,
        "wasi:cli/terminal-output@0.3.2/terminal-output": crate::host::wasi::terminal::TerminalOutput,
    },
}
