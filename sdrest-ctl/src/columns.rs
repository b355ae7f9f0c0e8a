//! Tables for a person's eyes: columns as wide as their widest cell.

use std::fmt::Write;

pub(crate) fn align<const N: usize>(lines: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
    });
    let mut text = String::new();
    for line in lines {
        let mut drawn = String::new();
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(drawn, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", drawn.trim_end());
    }
    text
}
