//! Compiled chains on disk: the bytes of a chain in, its compiled modules out, or nothing.
//!
//! One file per chain, named by a hash of everything that its content depends on. An entry that is damaged, cut short, somebody
//! else's or unreadable is a miss, and the next `put` replaces it; neither reading nor writing ever fails the caller.
//! What is read here becomes machine code, so `read_trusted` is strict about who may have written it.
#![expect(unsafe_code, reason = "maps compiled code that only we can have written, and asks who we are")]

use super::Parts;
use super::compose::Link;
use super::plan::Plan;
use anyhow::{Context, Result, anyhow, ensure};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use wasmtime::{Engine, Module};

/// Disk space that a cache takes unless told otherwise, in bytes.
pub const SIZE_MAX_DEFAULT: u64 = 1 << 30;

/// Layout of an entry. Code that determines its content is covered by `PRODUCERS`.
const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"iflowcch";
/// Magic, key, length of the content, SHA-256 of the content.
const HEADER_LEN: usize = 8 + 32 + 8 + 32;
const ENTRY_EXTENSION: &str = "chain";
const TEMPORARY_EXTENSION: &str = "new";
/// After this, a temporary file is one whose writer has died.
const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(3600);

/// Everything of ours that decides what an entry contains, so that no entry outlives a change of it.
const PRODUCERS: u64 = {
    let mut hash = fingerprint(0, include_bytes!("translate.rs"));
    hash = fingerprint(hash, include_bytes!("fact.rs"));
    hash = fingerprint(hash, include_bytes!("shims/mod.rs"));
    hash = fingerprint(hash, include_bytes!("shims/asm.rs"));
    hash = fingerprint(hash, include_bytes!("shims/call.rs"));
    hash = fingerprint(hash, include_bytes!("shims/record.rs"));
    hash = fingerprint(hash, include_bytes!("shims/fibers.rs"));
    hash = fingerprint(hash, include_bytes!("plan.rs"));
    hash = fingerprint(hash, include_bytes!("width.rs"));
    hash = fingerprint(hash, include_bytes!("widths_meet.rs"));
    hash = fingerprint(hash, include_bytes!("compose.rs"));
    fingerprint(hash, include_bytes!("mod.rs"))
};

/// Tells versions of a source file apart; nobody attacks it.
const fn fingerprint(mut hash: u64, mut bytes: &[u8]) -> u64 {
    while let Some((chunk, rest)) = bytes.split_first_chunk::<8>() {
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*chunk)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bytes = rest;
    }
    hash
}

/// What an entry is found by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of `chain` compiled by `engine`: equal only if everything that the result depends on is equal.
    pub fn of(engine: &Engine, chain: &[Link]) -> Key {
        let mut hash = Sha256::new();
        hash.update(MAGIC);
        hash.update(FORMAT.to_le_bytes());
        hash.update(PRODUCERS.to_le_bytes());
        update_sized(&mut hash, env!("CARGO_PKG_VERSION").as_bytes());
        update_sized(&mut hash, wasmtime_environ::VERSION.as_bytes());
        let mut engine_hash = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut engine_hash);
        hash.update(engine_hash.0.finalize());
        for link in chain {
            update_sized(&mut hash, &link.bytes);
        }
        Key(hash.finalize().into())
    }

    fn file_name(&self) -> String {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex}.{ENTRY_EXTENSION}")
    }
}

/// The length first, so that no two sequences of inputs look the same.
fn update_sized(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// Lets a `Hash` value be hashed by SHA-256.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    fn finish(&self) -> u64 {
        let digest: [u8; 32] = self.0.clone().finalize().into();
        digest.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}

/// Why a directory cannot be used as a cache.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "variants and fields are what their messages say")]
pub enum CacheError {
    #[error("cannot use {} as cache", dir.display())]
    Directory { dir: PathBuf, source: io::Error },
    #[error("cannot use {} as cache: it belongs to user {owner}, and this process runs as user {user}", dir.display())]
    Owner { dir: PathBuf, owner: u32, user: u32 },
    #[error("cannot use {} as cache: others may write to it (mode {mode:03o}); `chmod 700` it", dir.display())]
    Writable { dir: PathBuf, mode: u32 },
}

/// A directory of compiled chains.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    size_max: u64,
}

impl Cache {
    /// Opens the cache in `dir`, which is made if need be, and keeps it below `size_max` bytes.
    ///
    /// # Errors
    /// When the directory cannot be made, is not ours, or others may write to it. The caller can go on without a cache.
    pub fn open(dir: &Path, size_max: u64) -> Result<Cache, CacheError> {
        let failed = |source| CacheError::Directory { dir: dir.to_path_buf(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let metadata = fs::metadata(dir).map_err(failed)?;
        let user = effective_user();
        if metadata.uid() != user {
            return Err(CacheError::Owner { dir: dir.to_path_buf(), owner: metadata.uid(), user });
        }
        if writable_by_others(metadata.mode()) {
            return Err(CacheError::Writable { dir: dir.to_path_buf(), mode: metadata.mode() & 0o777 });
        }
        Ok(Cache { dir: dir.to_path_buf(), size_max })
    }

    /// `$XDG_CACHE_HOME/interflow`, else `~/.cache/interflow`; `None` without a home.
    pub fn default_dir() -> Option<PathBuf> {
        Cache::dir_in(std::env::var_os("XDG_CACHE_HOME").as_deref(), std::env::var_os("HOME").as_deref())
    }

    /// `default_dir` for given values of the two variables. Relative and empty ones do not count (XDG base directories).
    fn dir_in(cache_home: Option<&OsStr>, home: Option<&OsStr>) -> Option<PathBuf> {
        let absolute = |dir: &OsStr| Some(PathBuf::from(dir)).filter(|dir| dir.is_absolute());
        let base = cache_home.and_then(absolute).or_else(|| home.and_then(absolute).map(|home| home.join(".cache")));
        base.map(|base| base.join("interflow"))
    }

    /// What was put under `key`, if it is there and in order.
    pub(super) fn get(&self, engine: &Engine, key: &Key) -> Option<Parts> {
        let path = self.dir.join(key.file_name());
        match self.read(engine, key, &path) {
            Ok(parts) => Some(parts),
            Err(error) if is_missing(&error) => None,
            Err(error) => {
                tracing::debug!("cache entry {} is not used: {error:#}", path.display());
                None
            }
        }
    }

    fn read(&self, engine: &Engine, key: &Key, path: &Path) -> Result<Parts> {
        let (file, bytes) = read_trusted(path, self.size_max)?;
        let content = unwrap(&bytes, key)?;
        let parts = decode(engine, content)?;
        // The time of the last use decides which entries go first. Without it an entry only goes earlier.
        let _ = file.set_modified(SystemTime::now());
        Ok(parts)
    }

    /// Keeps `parts` under `key`. That it could not is worth a line in the log, no more.
    pub(super) fn put(&self, key: &Key, parts: &Parts) {
        match self.write(key, parts).and_then(|()| self.shrink().context("cannot remove old entries")) {
            Ok(()) => {}
            Err(error) => tracing::warn!("the compiled chain is not cached: {error:#}"),
        }
    }

    fn write(&self, key: &Key, parts: &Parts) -> Result<()> {
        let content = encode(parts)?;
        let size = (HEADER_LEN + content.len()) as u64;
        ensure!(size <= self.size_max, "{size} bytes, and the cache may have {}", self.size_max);
        // The name must be new: two processes may write the same entry at the same time, and the last rename wins.
        let temporary = self.dir.join(format!("{:016x}.{TEMPORARY_EXTENSION}", random()?));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .with_context(|| format!("cannot create {}", temporary.display()))?;
        let written = file
            .write_all(&header(key, &content))
            .and_then(|()| file.write_all(&content))
            .and_then(|()| fs::rename(&temporary, self.dir.join(key.file_name())));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.with_context(|| format!("cannot write {}", temporary.display()))
    }

    /// Removes the entries used longest ago until the rest fits, and what dead writers left.
    fn shrink(&self) -> Result<()> {
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.modified));
        let mut total = 0;
        for entry in entries {
            let keep = match entry.kind {
                EntryKind::Chain => {
                    total += entry.size;
                    total <= self.size_max
                }
                EntryKind::Temporary => entry.modified.elapsed().is_ok_and(|age| age < TEMPORARY_AGE_MAX),
            };
            if !keep {
                match fs::remove_file(&entry.path) {
                    // Another process shrinks, too.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Our files in the directory; others are left alone.
    fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let kind = match path.extension().and_then(OsStr::to_str) {
                Some(ENTRY_EXTENSION) => EntryKind::Chain,
                Some(TEMPORARY_EXTENSION) => EntryKind::Temporary,
                _ => continue,
            };
            // Gone since it was listed: not ours to remove any more.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                continue;
            }
            entries.push(Entry { kind, size: metadata.len(), modified: metadata.modified()?, path });
        }
        Ok(entries)
    }
}

struct Entry {
    path: PathBuf,
    kind: EntryKind,
    size: u64,
    modified: SystemTime,
}

enum EntryKind {
    Chain,
    Temporary,
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn writable_by_others(mode: u32) -> bool {
    mode & 0o022 != 0
}

fn effective_user() -> u32 {
    // SAFETY: `geteuid` takes nothing, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() }
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Reads a file that only this user can have written: ours, writable by nobody else, no link to elsewhere.
///
/// The checks are made on the open file, and what is returned is a copy in memory: nothing can be swapped in between.
fn read_trusted(path: &Path, size_max: u64) -> Result<(File, Vec<u8>)> {
    // O_NONBLOCK: somebody may have put a pipe there, and opening it must not hang.
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    ensure!(metadata.is_file(), "not a regular file");
    ensure!(metadata.uid() == effective_user(), "it belongs to user {}", metadata.uid());
    ensure!(!writable_by_others(metadata.mode()), "others may write to it");
    ensure!(metadata.len() <= size_max, "{} bytes", metadata.len());
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len())?);
    Read::by_ref(&mut file).take(size_max).read_to_end(&mut bytes)?;
    Ok((file, bytes))
}

fn header(key: &Key, content: &[u8]) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(MAGIC);
    header[8..40].copy_from_slice(&key.0);
    header[40..48].copy_from_slice(&(content.len() as u64).to_le_bytes());
    header[48..].copy_from_slice(&Sha256::digest(content));
    header
}

/// The content of an entry, if it is whole and the one that `key` stands for.
fn unwrap<'a>(bytes: &'a [u8], key: &Key) -> Result<&'a [u8]> {
    let (found, content) = bytes.split_first_chunk::<HEADER_LEN>().context("shorter than its header")?;
    ensure!(found == &header(key, content), "damaged, or not an entry for this chain");
    Ok(content)
}

/// The first section of an entry; the others are compiled modules: the shims, then `Parts::code`.
#[derive(serde::Serialize)]
struct Head<'a> {
    plan: &'a Plan,
    fibers: bool,
    positions: &'a [u32],
}

/// `Head` as it is read.
#[derive(serde::Deserialize)]
struct OwnedHead {
    plan: Plan,
    fibers: bool,
    positions: Vec<u32>,
}

fn encode(parts: &Parts) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut section = |bytes: &[u8]| {
        content.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        content.extend_from_slice(bytes);
    };
    section(&postcard::to_stdvec(&Head { plan: &parts.plan, fibers: parts.fibers, positions: &parts.positions })?);
    for module in std::iter::once(&parts.shims).chain(&parts.code) {
        section(&module.serialize().map_err(|error| anyhow!("{error:#}"))?);
    }
    Ok(content)
}

/// `content` is what `encode` made: `unwrap` has seen to that.
fn decode(engine: &Engine, content: &[u8]) -> Result<Parts> {
    let mut rest = content;
    let head: OwnedHead = postcard::from_bytes(section(&mut rest)?)?;
    let shims = module(engine, section(&mut rest)?)?;
    let mut code = Vec::new();
    while !rest.is_empty() {
        code.push(module(engine, section(&mut rest)?)?);
    }
    Ok(Parts { plan: head.plan, fibers: head.fibers, positions: head.positions, code, shims })
}

/// Takes the next section off `rest`.
fn section<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let (len, after) = rest.split_first_chunk::<8>().context("a section has no length")?;
    let (section, after) =
        after.split_at_checked(usize::try_from(u64::from_le_bytes(*len))?).context("a section is cut short")?;
    *rest = after;
    Ok(section)
}

fn module(engine: &Engine, bytes: &[u8]) -> Result<Module> {
    // SAFETY: `bytes` must be what `Module::serialize` gave, unchanged. They come from `encode`: `read_trusted` lets nobody but
    // this user have written the file and copies it before it is looked at, `unwrap` finds damage by its SHA-256, and `Key`
    // keeps entries of other versions of us and of the engine apart (the engine compares its own version and flags again).
    // Who can write as this user can replace our binary as well.
    unsafe { Module::deserialize(engine, bytes) }.map_err(|error| anyhow!("{error:#}"))
}

#[cfg(test)]
pub(super) mod testing {
    //! Where tests reach into an entry.
    use super::*;

    /// Where the header's fields begin, and the content.
    pub const FIELDS: [(&str, usize); 5] =
        [("magic", 0), ("key", 8), ("length", 40), ("checksum", 48), ("content", HEADER_LEN)];

    pub fn path(cache: &Cache, key: &Key) -> PathBuf {
        cache.dir.join(key.file_name())
    }

    /// A whole entry with this content.
    pub fn entry(key: &Key, content: &[u8]) -> Vec<u8> {
        [&header(key, content), content].concat()
    }

    pub fn dir_in(cache_home: Option<&str>, home: Option<&str>) -> Option<PathBuf> {
        Cache::dir_in(cache_home.map(OsStr::new), home.map(OsStr::new))
    }
}
