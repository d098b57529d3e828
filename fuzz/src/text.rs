//! Components as text, which stays well formed when it is changed: trees of atoms.
//!
//! A change moves, copies or drops a branch, or puts another atom in an atom's place. Most of what comes out is refused soon,
//! but names keep what is left together, so that far more of it is valid than of binaries with other bytes.

use crate::random::Random;
use std::fmt::Write;

/// An atom, or branches in parentheses.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// A word, number, name, or string with its quotes.
    Atom(String),
    /// `(...)`
    List(Vec<Tree>),
}

/// Atoms that a component may have gone without so far.
const WORDS: &str = "u8 u32 s64 f32 f64 bool char string i32 i64 async cancellable error-context \
    0 1 2 3 -1 4 8 15 16 17 32 33 255 256 1023 65535 65536 1048576 268435455 268435456 1073741824 2147483647 2147483648 \
    4294967295 4294967296 string-encoding=utf8 string-encoding=utf16 string-encoding=latin1+utf16 \
    i32.const i32.load i32.store i32.add i32.sub drop unreachable nop return loop block memory.grow \
    context.get context.set backpressure.inc backpressure.dec task.return task.cancel subtask.drop subtask.cancel \
    stream.new stream.read stream.write stream.cancel-read stream.cancel-write stream.drop-readable stream.drop-writable \
    future.new future.read future.write future.cancel-read future.cancel-write future.drop-readable future.drop-writable \
    waitable-set.new waitable-set.wait waitable-set.poll waitable-set.drop waitable.join resource.new resource.drop \
    resource.rep thread.index thread.new-indirect thread.resume-later thread.suspend thread.yield \
    thread.suspend-then-resume thread.yield-then-resume thread.suspend-then-promote thread.yield-then-promote \
    error-context.new error-context.debug-message error-context.drop";

/// Branches that a component may have gone without so far.
const BRANCHES: [&str; 16] = [
    "(list u8)",
    "(list string)",
    "(option u32)",
    "(result string (error u8))",
    "(tuple u8 u64)",
    "(stream u8)",
    "(stream)",
    "(future u32)",
    "(future (stream u8))",
    "(record (field \"a\" u8) (field \"b\" string))",
    "(variant (case \"a\" u64) (case \"b\" string))",
    "(flags \"a\" \"b\")",
    "(list u32 3)",
    "(map u8 string)",
    "(i32.const 0)",
    "(loop $l (br $l))",
];

/// The binary that `data` is, or is the text of.
pub fn binary(data: &[u8]) -> Option<Vec<u8>> {
    if data.starts_with(b"\0asm") {
        return Some(data.to_vec());
    }
    wat::parse_str(std::str::from_utf8(data).ok()?).ok()
}

/// All trees of a text; `None` if its parentheses do not match.
pub fn parse(text: &str) -> Option<Vec<Tree>> {
    let mut open: Vec<Vec<Tree>> = vec![Vec::new()];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '(' if rest.starts_with("(;") => block_comment(rest),
            '(' => {
                // Deeper than any component that anybody writes.
                if open.len() > 200 {
                    return None;
                }
                open.push(Vec::new());
                1
            }
            ')' => {
                let list = open.pop()?;
                open.last_mut()?.push(Tree::List(list));
                1
            }
            ';' if rest.starts_with(";;") => rest.find('\n').unwrap_or(rest.len()),
            '"' => {
                let len = string(rest);
                open.last_mut()?.push(Tree::Atom(rest[..len].to_string()));
                len
            }
            space if space.is_whitespace() => space.len_utf8(),
            _ => {
                let ends = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"');
                let len = rest.find(ends).unwrap_or(rest.len());
                // `@name"..."` and the like.
                open.last_mut()?.push(Tree::Atom(rest[..len].to_string()));
                len
            }
        };
        rest = &rest[len..];
    }
    let trees = open.pop()?;
    open.is_empty().then_some(trees)
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    for at in 0..text.len() - 1 {
        match &text.as_bytes()[at..at + 2] {
            b"(;" => depth += 1,
            b";)" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 2;
        }
    }
    text.len()
}

/// The text of a tree.
pub fn print(tree: &Tree, into: &mut String) {
    match tree {
        Tree::Atom(atom) => into.push_str(atom),
        Tree::List(list) => {
            into.push('(');
            for (n, tree) in list.iter().enumerate() {
                if n > 0 {
                    into.push(' ');
                }
                print(tree, into);
            }
            into.push(')');
        }
    }
}

/// Another component: `data[..size]` is changed, and its new length given.
pub fn mutate(data: &mut [u8], size: usize, seed: u32, bytes: fn(&mut [u8], usize, usize) -> usize) -> usize {
    let mut random = Random::new(u64::from(seed));
    let max_size = data.len();
    let tree = std::str::from_utf8(&data[..size]).ok().and_then(parse);
    match tree {
        Some(mut trees) if !trees.is_empty() && !random.once_in(64) => {
            for _ in 0..1 + random.below(3) {
                change(&mut trees, &mut random);
            }
            let mut text = String::new();
            for tree in &trees {
                print(tree, &mut text);
                let _ = writeln!(text);
            }
            write(data, text.as_bytes()).unwrap_or(size)
        }
        // Once in a while text becomes a binary; a binary stays one.
        Some(_) => match binary(&data[..size]) {
            Some(binary) => write(data, &binary).map_or(size, |size| bytes(data, size, max_size)),
            None => size,
        },
        None => bytes(data, size, max_size),
    }
}

fn write(data: &mut [u8], text: &[u8]) -> Option<usize> {
    data.get_mut(..text.len())?.copy_from_slice(text);
    Some(text.len())
}

fn count(tree: &Tree) -> usize {
    match tree {
        Tree::Atom(_) => 1,
        Tree::List(list) => 1 + list.iter().map(count).sum::<usize>(),
    }
}

/// Tree number `n`, from the root down.
fn nth<'a>(trees: &'a mut [Tree], n: &mut usize) -> Option<&'a mut Tree> {
    for tree in trees {
        if *n == 0 {
            return Some(tree);
        }
        *n -= 1;
        if let Tree::List(list) = tree
            && let Some(found) = nth(list, n)
        {
            return Some(found);
        }
    }
    None
}

fn change(trees: &mut [Tree], random: &mut Random) {
    let total: usize = trees.iter().map(count).sum();
    let other = match random.below(4) {
        0 => parse(BRANCHES[random.below(BRANCHES.len())]).and_then(|mut trees| trees.pop()),
        _ => nth(trees, &mut random.below(total)).cloned(),
    };
    let Some(tree) = nth(trees, &mut random.below(total)) else { return };
    match tree {
        Tree::Atom(atom) => {
            let words: Vec<&str> = WORDS.split_whitespace().collect();
            let word = words[random.below(words.len())];
            match (atom.parse::<i64>(), other, random.below(3)) {
                (Ok(number), _, 0) => *atom = number.wrapping_add(random.below(9) as i64 - 4).to_string(),
                (_, Some(Tree::Atom(other)), 1 | 2) => *atom = other,
                _ => *atom = word.to_string(),
            }
        }
        Tree::List(list) => {
            let (at, to) = (random.below(list.len()), random.below(list.len()));
            match random.below(6) {
                0 if !list.is_empty() => drop(list.remove(at)),
                1 if !list.is_empty() => list.swap(at, to),
                2 if !list.is_empty() => {
                    let copy = list[at].clone();
                    list.insert(to, copy);
                }
                3 => {
                    if let Some(other) = other {
                        list.insert(at, other);
                    }
                }
                4 if !list.is_empty() => {
                    if let Some(other) = other {
                        list[at] = other;
                    }
                }
                _ => {
                    if let Some(other) = other {
                        *tree = other;
                    }
                }
            }
        }
    }
}

/// The components of a script, as text.
pub fn components(script: &str) -> Vec<String> {
    fn collect(trees: &[Tree], into: &mut Vec<String>) {
        for tree in trees {
            let Tree::List(list) = tree else { continue };
            match list.first() {
                Some(Tree::Atom(word)) if word == "component" => {
                    // Not those in quotes, nor instances of definitions.
                    let whole = list.iter().take(3).all(|part| match part {
                        Tree::Atom(word) => !matches!(word.as_str(), "quote" | "binary" | "instance"),
                        Tree::List(_) => true,
                    });
                    let definition = matches!(list.get(1), Some(Tree::Atom(word)) if word == "definition");
                    if whole {
                        let mut list = list.clone();
                        if definition {
                            list.remove(1);
                        }
                        let mut text = String::new();
                        print(&Tree::List(list), &mut text);
                        into.push(text);
                    }
                }
                Some(Tree::Atom(word)) if word.starts_with("assert_") => collect(&list[1..], into),
                _ => {}
            }
        }
    }
    let mut components = Vec::new();
    collect(&parse(script).unwrap_or_default(), &mut components);
    components
}
