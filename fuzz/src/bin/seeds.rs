//! `seeds <corpus> <script or directory>...`: writes the first inputs of each target.

use anyhow::{Context, Result};
use fuzz::corpus::{self, Input};
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let into = args.next().context("usage: seeds <corpus> <script or directory>...")?;
    let (components, programs) = (corpus::components(&args.collect::<Vec<_>>())?, corpus::programs());
    write(&into.join("components"), &components)?;
    write(&into.join("builtins"), &programs)?;
    eprintln!("{} components of scripts, {} programs", components.len(), programs.len());
    Ok(())
}

fn write(directory: &Path, inputs: &[Input]) -> Result<()> {
    fs::create_dir_all(directory)?;
    for (name, input) in inputs {
        fs::write(directory.join(name), input)?;
    }
    Ok(())
}
