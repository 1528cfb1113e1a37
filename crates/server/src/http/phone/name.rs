//! Names that come from outside, as a page may show them.

/// A whole name as its owner sees it, in one line and within its bound.
pub(crate) fn shown(name: &str) -> String {
    const CHARACTERS: usize = 64;
    let name: String = name.chars().filter(|c| !is_invisible(*c)).take(CHARACTERS).collect();
    name.trim().to_owned()
}

/// Characters that are not seen themselves but change what is: controls, direction marks, joiners, tags.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_name_is_one_bounded_line_in_its_own_direction() {
        assert_eq!(shown(" a\u{202e}b\nc "), "abc");
        assert_eq!(shown(&"长".repeat(1_000)).chars().count(), 64);
    }
}
