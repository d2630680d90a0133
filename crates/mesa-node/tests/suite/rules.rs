//! Rules that a domain in a file does not show.

use mesa_node::domain::{
    Changed, LeftAlone, Outcome, Reason, Wanted, WantedError, Written, with_display,
};
use rstest::rstest;

use crate::common::{always, changed};

#[test]
fn without_a_directory_of_modules_only_the_display_is_written() {
    let wanted = Wanted::new("/dev/null".to_owned(), None, true).unwrap();
    let Ok(Outcome::Changed(changed)) =
        with_display(b"<domain><devices></devices></domain>", &wanted)
    else {
        panic!()
    };
    assert_eq!(changed.written, [Written::Graphics]);
    assert!(!String::from_utf8(changed.xml).unwrap().contains("qemu"));
}

#[test]
fn values_are_escaped_and_recognised_again() {
    let odd = "/a'b\"c<d>&e é".to_owned();
    let wanted = Wanted::new(odd.clone(), Some(odd), true).unwrap();
    let Ok(Outcome::Changed(Changed { xml, .. })) =
        with_display(b"<domain><devices/></domain>", &wanted)
    else {
        panic!()
    };
    let text = std::str::from_utf8(&xml).unwrap();
    assert!(
        text.contains("rendernode='/a&apos;b&quot;c&lt;d&gt;&amp;e é'"),
        "{text}"
    );
    let again = with_display(&xml, &wanted).unwrap();
    assert_eq!(again, Outcome::Unchanged(Reason::Complete(Vec::new())));
}

#[rstest]
#[case::relative("dev/null")]
#[case::empty("")]
#[case::option("-x")]
fn a_path_that_is_not_absolute_is_refused(#[case] path: &str) {
    let error = Wanted::new(path.to_owned(), None, false).unwrap_err();
    assert_eq!(error, WantedError::NotAbsolute(path.to_owned()));
}

#[rstest]
#[case::line("/a\nb")]
#[case::null("/a\0b")]
#[case::c1("/a\u{85}b")]
#[case::not_a_character("/a\u{ffff}b")]
fn a_path_that_no_domain_can_hold_is_refused(#[case] path: &str) {
    let error = Wanted::new("/dev/null".to_owned(), Some(path.to_owned()), false).unwrap_err();
    assert_eq!(error, WantedError::Control(path.to_owned()));
}

/// Two defects of one domain are both mended, and what is in between stays.
#[test]
fn what_is_left_alone_is_said_of_a_domain_that_is_changed_too() {
    let domain = "<domain xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:commandline><q:env \
                  name='QEMU_MODULE_DIR' value='/x'/></q:commandline><devices></devices></domain>";
    let changed = changed(domain);
    assert_eq!(changed.written, [Written::Graphics]);
    assert_eq!(changed.left_alone, [LeftAlone::ModuleDir("/x".to_owned())]);
    assert_eq!(
        changed.to_string(),
        "added a GL display; somebody else has set QEMU_MODULE_DIR to /x"
    );
}

#[test]
fn an_unknown_display_of_somebody_else_is_named() {
    let domain =
        "<domain><devices><graphics type='dbus'><gl enable='yes'/></graphics></devices></domain>";
    let said = always(domain).to_string();
    assert_eq!(
        said,
        "unchanged: somebody else has chosen a display: dbus with GL"
    );
}
