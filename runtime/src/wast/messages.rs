//! Does an error say what a script expects?
//!
//! Scripts expect wasmtime's words. Where ours are the same, the expected text is part of the error's. Where they differ with a
//! reason, `SAME` says which texts mean the same; nothing else counts.

/// What wasmtime puts before the text of a trap, and some scripts with it.
const TRAP: &str = "wasm trap: ";

/// Expected text, and what our error says instead.
const SAME: &[(&str, &str)] = &[
    // Ours also says that it is a stream.
    (
        "cannot read after being notified that the writable end dropped",
        "cannot read from stream after being notified that the writable end dropped",
    ),
    (
        "cannot write after being notified that the readable end dropped",
        "cannot write to stream after being notified that the readable end dropped",
    ),
    // A future's writer can be notified of this only once, so we do not tell it from having written.
    (
        "cannot write after being notified that the readable end dropped",
        "cannot write to future after previous write succeeded or readable end dropped",
    ),
    // Dropping an end takes it out of its table, and so does giving it away.
    ("cannot remove busy stream", "cannot drop busy stream"),
    ("cannot remove busy stream", "cannot lift busy stream"),
    // Ours says what it is, and how many.
    ("resource has children", "waitables are in it"),
    // The counter leaves its range; ours says at which side.
    ("backpressure counter overflow", "backpressure counter underflow"),
    // Ours shows the values.
    ("converted integer out of range for `char`", "is not a char"),
    ("return pointer not aligned", "is not aligned to 4"),
    ("list pointer/length out of bounds of memory", "a list of"),
    // The debug message is stored as any string.
    ("invalid debug message pointer", "are out of bounds of a memory of"),
];

/// Is `actual` the error that a script describes as `expected`?
pub(super) fn says(actual: &str, expected: &str) -> bool {
    let expected = expected.strip_prefix(TRAP).unwrap_or(expected);
    actual.contains(expected) || SAME.iter().any(|(theirs, ours)| *theirs == expected && actual.contains(ours))
}

#[cfg(test)]
mod tests {
    use super::{SAME, says};

    #[test]
    fn an_error_says_what_is_in_its_text_or_in_the_table() {
        assert!(says("wasm trap: wasm `unreachable` instruction executed", "unreachable"));
        assert!(says("unknown handle index 3", "wasm trap: unknown handle index 3"));
        assert!(!says("unknown handle index 3", "unreachable"));
        for (theirs, ours) in SAME {
            assert!(says(&format!("a call trapped: {ours}"), theirs), "{theirs}");
        }
    }
}
