//! Mesa's version, which its drivers carry as text.

use std::mem;

/// What stands before the version, as in `Mesa 25.0.7-2+deb13u1`.
const MARK: &[u8] = b"Mesa ";
/// The longest version that is believed.
const MAX: usize = 64;

/// Looks for the version in bytes that come piece by piece.
#[derive(Debug, Default)]
pub(super) struct Finder {
    /// The end of what came so far, in which a version may have begun.
    rest: Vec<u8>,
    found: Option<String>,
}

impl Finder {
    /// Takes the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.found.is_some() {
            return;
        }
        let mut seen = mem::take(&mut self.rest);
        seen.extend_from_slice(bytes);
        self.found = seen
            .windows(MARK.len())
            .enumerate()
            .filter(|(_, window)| *window == MARK)
            .find_map(|(at, _)| version(seen.get(at + MARK.len()..)?));
        let keep = seen.len().saturating_sub(MARK.len() + MAX);
        self.rest = seen.split_off(keep);
    }

    /// The version, once all bytes are there.
    pub(super) fn finish(self) -> Option<String> {
        self.found
    }
}

/// A version with its terminating NUL at the start of `bytes`.
fn version(bytes: &[u8]) -> Option<String> {
    let text = bytes.get(..bytes.len().min(MAX))?.split(|byte| *byte == 0);
    // Without a NUL it is no whole text, or it is not all here yet.
    let text = text
        .take(bytes.iter().take(MAX).any(|byte| *byte == 0).into())
        .next()?;
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b".+~-_".contains(byte);
    (text.first()?.is_ascii_digit() && text.contains(&b'.') && text.iter().all(good))
        .then(|| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::Finder;

    fn find(pieces: &[&[u8]]) -> Option<String> {
        let mut finder = Finder::default();
        for piece in pieces {
            finder.feed(piece);
        }
        finder.finish()
    }

    #[test]
    fn the_version_is_found_wherever_the_pieces_are_cut() {
        let bytes = b"\0Mesa Gallium driver\0Mesa version %s\0%s Mesa 25.0.7-2+deb13u1\0more";
        for cut in 0..bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let found = find(&[first, second]);
            assert_eq!(found.as_deref(), Some("25.0.7-2+deb13u1"), "cut at {cut}");
        }
    }

    #[test]
    fn what_only_resembles_a_version_is_none() {
        assert_eq!(find(&[b"Mesa 3D\0Mesa 7\0Mesa 25.0"]), None);
    }
}
