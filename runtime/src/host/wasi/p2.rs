//! The traits of WASI 0.2, generated from `wit/`: what standard libraries import.

interflow_macros::host! {
    path: "../wit",
    interfaces: [
        "wasi:io/error@0.2.12",
        "wasi:io/poll@0.2.12",
        "wasi:io/streams@0.2.12",
        "wasi:clocks/monotonic-clock@0.2.12",
        "wasi:clocks/wall-clock@0.2.12",
        "wasi:random/random@0.2.12",
        "wasi:random/insecure@0.2.12",
        "wasi:random/insecure-seed@0.2.12",
        "wasi:filesystem/types@0.2.12",
        "wasi:filesystem/preopens@0.2.12",
        "wasi:cli/environment@0.2.12",
        "wasi:cli/exit@0.2.12",
        "wasi:cli/stdin@0.2.12",
        "wasi:cli/stdout@0.2.12",
        "wasi:cli/stderr@0.2.12",
        "wasi:cli/terminal-input@0.2.12",
        "wasi:cli/terminal-output@0.2.12",
        "wasi:cli/terminal-stdin@0.2.12",
        "wasi:cli/terminal-stdout@0.2.12",
        "wasi:cli/terminal-stderr@0.2.12",
    ],
    blocking: [
        "wasi:io/poll@0.2.12/poll",
        "wasi:io/poll@0.2.12/[method]pollable.block",
    ],
    with: {
        "wasi:io/error@0.2.12/error": crate::host::wasi::io::IoError,
        "wasi:io/poll@0.2.12/pollable": crate::host::wasi::io::Pollable,
        "wasi:io/streams@0.2.12/input-stream": crate::host::wasi::io::InputStream,
        "wasi:io/streams@0.2.12/output-stream": crate::host::wasi::io::OutputStream,
        "wasi:filesystem/types@0.2.12/descriptor": crate::host::wasi::filesystem::Descriptor,
        "wasi:filesystem/types@0.2.12/directory-entry-stream":
            crate::host::wasi::filesystem::DirectoryEntryStream,
        "wasi:cli/terminal-input@0.2.12/terminal-input": crate::host::wasi::terminal::TerminalInput,
        "wasi:cli/terminal-output@0.2.12/terminal-output": crate::host::wasi::terminal::TerminalOutput,
    },
}
