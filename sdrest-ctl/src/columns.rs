//! Tables for a person's eyes: columns as wide as their widest cell. What is in a cell can neither end its line nor move
//! the cursor: much of it comes from other processes.

use crate::session::terminal::printable_line;
use std::fmt::Write;

pub(crate) fn align<const N: usize>(lines: &[[String; N]]) -> String {
    let lines: Vec<[String; N]> = lines
        .iter()
        .map(|line| std::array::from_fn(|column| printable_line(&line[column])))
        .collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
    });
    let mut text = String::new();
    for line in &lines {
        let mut drawn = String::new();
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(drawn, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", drawn.trim_end());
    }
    text
}
