//! The pattern language of the settings: a text in which each `*` stands for any text, the empty one too.

/// Whether a text fits a pattern.
///
/// ```
/// use mesa_injector::pattern;
///
/// assert!(pattern::fits("*/virt-launcher:v1.9.*", "quay.io/kubevirt/virt-launcher:v1.9.0"));
/// assert!(!pattern::fits("nvidia.com/*", "amd.com/gpu"));
/// ```
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(text) = text
        .strip_prefix(head)
        .and_then(|text| text.strip_suffix(tail))
    else {
        return false;
    };
    // What stands between two stars may be taken where it comes first: that leaves most for the others.
    let mut rest = text;
    middle.split('*').all(|part| {
        let found = rest.split_once(part);
        found.is_some_and(|(_, behind)| {
            rest = behind;
            true
        })
    })
}

/// Whether one of the patterns fits.
#[must_use]
pub fn any_fits(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| fits(pattern, text))
}
