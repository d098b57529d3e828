//! The `;;!` lines at the head of a script: TOML that says what the script needs.
//!
//! The features are those of wasmtime's test suite. What a script asks for and our engine lacks is not an error here: the
//! script then fails where it uses it.

use crate::component::translate;
use serde::Deserialize;
use std::collections::BTreeMap;
use wasmparser::WasmFeatures;

/// What a script says of itself.
#[derive(Debug)]
pub(super) struct Header {
    /// What its components may use.
    pub features: WasmFeatures,
    /// Why it is known to fail.
    pub known_failure: Option<String>,
}

#[derive(Deserialize)]
struct Lines {
    known_failure: Option<String>,
    #[serde(flatten)]
    switches: BTreeMap<String, bool>,
}

const MARK: &str = ";;!";

impl Header {
    /// Reads the header of the script `text`.
    pub fn parse(text: &str) -> Result<Header, String> {
        let lines: Vec<&str> = text.lines().map_while(|line| line.strip_prefix(MARK)).collect();
        let lines: Lines =
            toml::from_str(&lines.join("\n")).map_err(|error| format!("the `{MARK}` header: {}", error.message()))?;
        let mut features = known();
        for (name, on) in lines.switches {
            let Some(switch) = feature(&name) else {
                return Err(format!("the `{MARK}` header: unknown key `{name}`"));
            };
            features.set(switch, on);
        }
        Ok(Header { features, known_failure: lines.known_failure })
    }
}

/// What the validator may admit unless a header says otherwise: what our engine runs, and what suites are about although it does
/// not. A component that really uses the latter is refused later, when its core modules are compiled.
fn known() -> WasmFeatures {
    translate::features() | WasmFeatures::GC | WasmFeatures::GC_TYPES | WasmFeatures::EXCEPTIONS | WasmFeatures::THREADS
}

/// The features that a header's key switches. Keys that are about a machine and not about wasm switch nothing.
fn feature(name: &str) -> Option<WasmFeatures> {
    Some(match name {
        "bulk_memory" => WasmFeatures::BULK_MEMORY,
        "memory64" => WasmFeatures::MEMORY64,
        "component_model_memory64" => WasmFeatures::CM64,
        "custom_page_sizes" => WasmFeatures::CUSTOM_PAGE_SIZES,
        "multi_memory" => WasmFeatures::MULTI_MEMORY,
        "threads" => WasmFeatures::THREADS,
        "shared_everything_threads" => WasmFeatures::SHARED_EVERYTHING_THREADS,
        "gc" => WasmFeatures::GC,
        "gc_types" => WasmFeatures::GC_TYPES,
        "function_references" => WasmFeatures::FUNCTION_REFERENCES,
        "relaxed_simd" => WasmFeatures::RELAXED_SIMD,
        "simd" => WasmFeatures::SIMD,
        "reference_types" => WasmFeatures::REFERENCE_TYPES,
        "tail_call" => WasmFeatures::TAIL_CALL,
        "extended_const" => WasmFeatures::EXTENDED_CONST,
        "wide_arithmetic" => WasmFeatures::WIDE_ARITHMETIC,
        "exceptions" => WasmFeatures::EXCEPTIONS,
        "legacy_exceptions" => WasmFeatures::LEGACY_EXCEPTIONS,
        "stack_switching" => WasmFeatures::STACK_SWITCHING,
        "custom_descriptors" => WasmFeatures::CUSTOM_DESCRIPTORS,
        "component_model_async" => WasmFeatures::CM_ASYNC,
        "component_model_more_async_builtins" => WasmFeatures::CM_MORE_ASYNC_BUILTINS,
        "component_model_async_stackful" => WasmFeatures::CM_ASYNC_STACKFUL,
        "component_model_threading" => WasmFeatures::CM_THREADING,
        "component_model_error_context" => WasmFeatures::CM_ERROR_CONTEXT,
        "component_model_gc" => WasmFeatures::CM_GC,
        "component_model_map" => WasmFeatures::CM_MAP,
        "component_model_fixed_length_lists" => WasmFeatures::CM_FIXED_LENGTH_LISTS,
        "component_model_implements" => WasmFeatures::CM_IMPLEMENTS,
        "hogs_memory" | "nan_canonicalization" | "spec_test" | "branch_hinting" => WasmFeatures::empty(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::Header;
    use wasmparser::WasmFeatures;

    #[test]
    fn a_header_switches_features_and_marks_known_failures() {
        let header = Header::parse("(component)").unwrap();
        assert!(header.features.contains(WasmFeatures::CM_ASYNC) && header.known_failure.is_none());
        let text = ";;! component_model_async = false\n;;! known_failure = \"later\"\n(component)";
        let header = Header::parse(text).unwrap();
        assert!(!header.features.contains(WasmFeatures::CM_ASYNC));
        assert_eq!(header.known_failure.as_deref(), Some("later"));
        assert!(!Header::parse(";;! gc = false\n").unwrap().features.contains(WasmFeatures::GC));
    }

    #[test]
    fn a_header_that_nobody_knows_is_refused() {
        assert!(Header::parse(";;! colour = true\n").unwrap_err().contains("unknown key `colour`"));
        assert!(Header::parse(";;! gc =\n").unwrap_err().contains("header"));
    }
}
