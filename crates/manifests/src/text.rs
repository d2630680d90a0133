//! Text that neither steers a terminal nor ends a line.

/// `text` with a replacement character for each that steers a terminal, breaks a line or cannot be seen.
///
/// The names of files, libraries and pods are what somebody else has written. In a YAML comment a line break of
/// YAML 1.1 (U+0085, U+2028, U+2029) would end the comment and begin a document, and on a terminal a control
/// character erases or a bidirectional one reorders what was printed.
///
/// ```
/// assert_eq!(manifests::printable("lib\u{2028}a: \u{202e}1"), "lib\u{fffd}a: \u{fffd}1");
/// ```
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| match is_printable(letter) {
            true => letter,
            false => char::REPLACEMENT_CHARACTER,
        })
        .collect()
}

/// Whether a character is seen, takes part in a line and leaves the order of the others alone.
///
/// Not printable are Unicode's categories Cc, Zl, Zp and Cf, and the fillers, which are letters without a shape.
pub(crate) fn is_printable(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}
