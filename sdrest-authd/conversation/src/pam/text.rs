//! Makes a module's text fit to be shown: valid UTF-8, no control characters (C0, C1, terminal sequences as of
//! ECMA-48, direction overrides), not over the limit. Line feeds stay, because a device login draws a code
//! with them.

use sdrest_proto::conversation::MAX_TEXT;

/// At most `left` bytes, and never more than one message may have, cut at a character.
pub(crate) fn presentable(raw: &[u8], left: usize) -> String {
    let limit = MAX_TEXT.min(left);
    // Twice the limit is enough to fill it after removals that matter, and keeps a huge text cheap.
    let head = raw.get(..raw.len().min(4 * MAX_TEXT)).unwrap_or_default();
    let decoded = String::from_utf8_lossy(head);
    let mut shown = String::with_capacity(decoded.len().min(limit));
    let mut characters = decoded.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // A control sequence: its parameters and its final byte go too.
            if characters.next_if_eq(&'[').is_some() {
                while characters.next_if(|c| matches!(c, '\u{20}'..='\u{3f}')).is_some() {}
                characters.next_if(|c| matches!(c, '\u{40}'..='\u{7e}'));
            }
            continue;
        }
        let character = if character == '\t' { ' ' } else { character };
        if (character.is_control() && character != '\n') || turns_direction(character) {
            continue;
        }
        if shown.len() + character.len_utf8() > limit {
            break;
        }
        shown.push(character);
    }
    shown
}

/// Characters that reorder the text around them (Unicode TR 9).
fn turns_direction(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_terminal_sequences_go() {
        assert_eq!(presentable(b"Pass\x1b[31;1mword\x07:\r ", 100), "Password: ");
        assert_eq!(presentable("a\u{202e}b\u{9b}c\td\ne".as_bytes(), 100), "abc d\ne");
        assert_eq!(presentable(b"\x1b", 100), "");
        assert_eq!(presentable(b"bad \xff byte", 100), "bad \u{fffd} byte");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(presentable("ééé".as_bytes(), 5), "éé");
        assert_eq!(presentable(&vec![b'x'; 1 << 20], usize::MAX).len(), MAX_TEXT);
    }
}
