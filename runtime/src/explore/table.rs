//! Who did what in a run, as text: a row per step, a column per instance and client.

use crate::sim::{Column, Row};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Characters of a cell; what is longer is cut.
const CELL_MAX: usize = 44;

/// Rows that do the same as the one before are one, with their number.
struct Line<'a> {
    column: Column,
    text: &'a str,
    times: usize,
}

/// The rows of a run, `details` too if asked for. `names` are those of instances.
pub(crate) fn table(rows: &[Row], details: bool, names: &[(u32, u32, String)]) -> String {
    let lines = lines(rows.iter().filter(|row| details || !row.detail));
    let mut columns: Vec<Column> = lines.iter().map(|line| line.column).collect::<BTreeSet<_>>().into_iter().collect();
    // Instances that have names in the order of these: as they call each other.
    columns.sort_by_key(|column| match column {
        Column::Instance(zone, instance) => (true, position(*zone, *instance, names)),
        _ => (false, None),
    });
    let cells: Vec<String> = lines.iter().map(cell).collect();
    let heads: Vec<String> = columns.iter().map(|column| name(*column, names)).collect();
    let width = |(column, head): (&Column, &String)| {
        let own = lines.iter().zip(&cells).filter(|(line, _)| line.column == *column);
        own.map(|(_, cell)| cell.chars().count()).max().unwrap_or(0).max(head.chars().count())
    };
    let widths: Vec<usize> = columns.iter().zip(&heads).map(width).collect();
    let mut text = String::new();
    write_row(&mut text, &widths, |at| &heads[at]);
    for (line, cell) in lines.iter().zip(&cells) {
        write_row(&mut text, &widths, |at| if columns[at] == line.column { cell } else { "" });
    }
    text
}

/// What a column is called.
pub(crate) fn name(column: Column, names: &[(u32, u32, String)]) -> String {
    match column {
        Column::Choice => "choice".to_string(),
        Column::Client(n) => format!("client {}", n + 1),
        Column::Script => "script".to_string(),
        Column::Host => "host".to_string(),
        Column::Instance(zone, instance) => {
            position(zone, instance, names).map_or_else(|| format!("{zone}.{instance}"), |at| names[at].2.clone())
        }
    }
}

fn position(zone: u32, instance: u32, names: &[(u32, u32, String)]) -> Option<usize> {
    names.iter().position(|(of, number, _)| (*of, *number) == (zone, instance))
}

fn lines<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for row in rows {
        match lines.last_mut() {
            Some(last) if last.column == row.column && last.text == row.text => last.times += 1,
            _ => lines.push(Line { column: row.column, text: &row.text, times: 1 }),
        }
    }
    lines
}

fn cell(line: &Line<'_>) -> String {
    let mut text: String = line.text.chars().take(CELL_MAX).collect();
    if text.len() < line.text.len() {
        text.push('…');
    }
    match line.times {
        1 => text,
        times => format!("{text} (x{times})"),
    }
}

fn write_row<'a>(text: &mut String, widths: &[usize], cell: impl Fn(usize) -> &'a str) {
    let cells: Vec<String> = widths.iter().enumerate().map(|(at, &width)| format!("{:width$}", cell(at))).collect();
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}
