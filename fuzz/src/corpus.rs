//! The first inputs of each target: components of scripts, and programs of chance.

use crate::{builtins, text};
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Programs for the puppets.
const PROGRAMS: u64 = 64;

/// A name that no other input of its target has, and the input.
pub type Input = (String, Vec<u8>);

/// The components of scripts; of all that are in a directory, in the order of their names.
///
/// # Errors
/// Something cannot be read.
pub fn components(scripts: &[PathBuf]) -> Result<Vec<Input>> {
    let mut files = Vec::new();
    for path in scripts {
        collect(path, &mut files)?;
    }
    let mut inputs = Vec::new();
    for file in files {
        let script = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.file_stem().and_then(OsStr::to_str).unwrap_or("script");
        let components = text::components(&script).into_iter().enumerate();
        inputs.extend(components.map(|(n, component)| (format!("{name}-{n}"), component.into_bytes())));
    }
    Ok(inputs)
}

/// Short programs, and longer ones.
pub fn programs() -> Vec<Input> {
    (0..PROGRAMS).map(|seed| (format!("seed-{seed}"), builtins::program(seed, 4 + seed as usize / 2))).collect()
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut entries: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() || entry.extension() == Some(OsStr::new("wast")) {
            collect(&entry, files)?;
        }
    }
    Ok(())
}
