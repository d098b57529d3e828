//! `seeds <corpus> <script or directory>...`: the first inputs of each target, from scripts and from chance.

use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Programs for the puppets.
const PROGRAMS: u64 = 64;

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let corpus = args.next().context("usage: seeds <corpus> <script or directory>...")?;
    let mut scripts = Vec::new();
    for path in args {
        collect(&path, &mut scripts)?;
    }
    let components = corpus.join("components");
    fs::create_dir_all(&components)?;
    let mut written = 0;
    for script in &scripts {
        let text = fs::read_to_string(script).with_context(|| format!("cannot read {}", script.display()))?;
        let name = script.file_stem().and_then(OsStr::to_str).unwrap_or("script");
        for (n, component) in fuzz::text::components(&text).iter().enumerate() {
            fs::write(components.join(format!("{name}-{n}")), component)?;
            written += 1;
        }
    }
    let builtins = corpus.join("builtins");
    fs::create_dir_all(&builtins)?;
    for seed in 0..PROGRAMS {
        fs::write(builtins.join(format!("seed-{seed}")), fuzz::builtins::program(seed, 4 + seed as usize / 2))?;
    }
    eprintln!("{written} components of {} scripts, {PROGRAMS} programs", scripts.len());
    Ok(())
}

fn collect(path: &Path, scripts: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        scripts.push(path.to_path_buf());
        return Ok(());
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() || entry.extension() == Some(OsStr::new("wast")) {
            collect(&entry, scripts)?;
        }
    }
    Ok(())
}
