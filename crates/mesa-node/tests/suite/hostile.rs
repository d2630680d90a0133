//! Domains of any bytes, depth and size: an answer comes, and soon.

use std::time::{Duration, Instant};

use mesa_node::domain::{DomainError, Outcome, with_display};
use proptest::prelude::*;
use rstest::rstest;

use crate::common::{changed, data, long_domain, say, wanted};

/// Far more than any of these takes, and far less than what is quadratic would.
const SOON: Duration = Duration::from_secs(20);

fn soon(xml: &str) -> Result<Outcome, DomainError> {
    let start = Instant::now();
    let outcome = with_display(xml.as_bytes(), &wanted(true));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    outcome
}

#[rstest]
#[case::closed(true)]
#[case::unclosed(false)]
fn a_million_elements_in_each_other_are_refused(#[case] closed: bool) {
    let depth = 1_000_000;
    let mut xml = format!("<domain><devices/>{}", "<a>".repeat(depth));
    if closed {
        xml += &"</a>".repeat(depth);
        xml += "</domain>";
    }
    assert_eq!(soon(&xml), Err(DomainError::Depth));
}

#[test]
fn as_deep_as_libvirt_reads_is_read() {
    let nested = |depth: usize| {
        format!(
            "<domain><devices/>{}{}</domain>",
            "<a>".repeat(depth),
            "</a>".repeat(depth)
        )
    };
    assert!(soon(&nested(255)).is_ok());
    assert_eq!(soon(&nested(256)), Err(DomainError::Depth));
}

#[rstest]
#[case::attributes(|n| format!("<domain {}><devices/></domain>", many(n, |i| format!("a{i}='' "))))]
#[case::elements(|n| format!("<domain><devices/>{}</domain>", "<a/>".repeat(n)))]
#[case::hostdevs(|n| format!("<domain><devices>{}</devices></domain>", "<hostdev display='on'/>".repeat(n)))]
#[case::variables(|n| format!(
    "<domain xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><devices/><q:commandline>{}</q:commandline></domain>",
    "<q:env name='A' value='B'/>".repeat(n)
))]
#[case::sections(|n| format!(
    "<domain xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><devices/>{}</domain>",
    "<q:commandline/>".repeat(n)
))]
#[case::comments(|n| format!("<domain><devices/>{}</domain>", "<!---->".repeat(n)))]
#[case::references(|n| format!("<domain><devices/>{}</domain>", "&amp;".repeat(n)))]
#[case::value(|n| format!("<domain a='{}'><devices/></domain>", "&lt;".repeat(n)))]
#[case::name(|n| format!("<domain><devices/><{0}></{0}></domain>", "a".repeat(n)))]
#[case::lines(|n| format!("<domain>{}<devices/></domain>", "\n".repeat(n)))]
#[case::section_name(|n| format!(
    "<domain xmlns:{0}='http://libvirt.org/schemas/domain/qemu/1.0'><devices/></domain>",
    "a".repeat(n)
))]
fn a_large_domain_of_one_kind_is_read_soon(#[case] xml: fn(usize) -> String) {
    let outcome = soon(&xml(200_000)).unwrap();
    assert!(matches!(outcome, Outcome::Changed(_)), "{outcome}");
}

#[test]
fn many_namespaces_are_refused() {
    let declarations = many(100_000, |i| format!("xmlns:a{i}='b' "));
    let xml = format!(
        "<domain {declarations}><devices/>{}</domain>",
        "<a/>".repeat(100_000)
    );
    assert!(matches!(soon(&xml), Err(DomainError::Malformed { .. })));
}

#[test]
fn many_graphics_are_left_alone() {
    let graphics = "<graphics type='egl-headless'/>".repeat(100_000);
    let outcome = soon(&format!("<domain><devices>{graphics}</devices></domain>")).unwrap();
    assert!(
        outcome.to_string().contains("100000 GL displays"),
        "{outcome}"
    );
}

#[test]
fn what_is_said_of_a_hostile_domain_is_short() {
    let long = "\u{202e}a".repeat(100_000);
    for xml in [
        format!("<{long}/>"),
        format!("<domain><{long}></b></domain>"),
        format!("<domain><{long}>"),
        format!("<domain a='&{long};'/>"),
        format!("<?xml version='1.0' encoding='{long}'?><domain/>"),
    ] {
        let said = soon(&xml).unwrap_err().to_string();
        assert!(said.chars().count() < 300, "{said}");
        assert!(!said.contains('\u{202e}'), "{said}");
    }
    let argument = format!(
        "<domain xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><devices/><q:commandline><q:env \
         name='QEMU_MODULE_DIR' value='{long}'/><q:arg value='-display={long}'/></q:commandline></domain>"
    );
    assert!(soon(&argument).unwrap().to_string().chars().count() < 300);
    let directory = argument.replace("-display=", "");
    assert!(soon(&directory).unwrap().to_string().chars().count() < 300);
    let node = format!(
        "<domain><devices><graphics type='egl-headless'><gl rendernode='{long}'/></graphics></devices></domain>"
    );
    assert!(soon(&node).unwrap().to_string().chars().count() < 300);
}

#[test]
fn a_domain_of_a_megabyte_takes_milliseconds() {
    let domain = long_domain(1 << 20);
    let start = Instant::now();
    let changed = changed(&domain);
    let took = start.elapsed();
    say(&format!(
        "a domain of {} bytes: {took:?} (as the tests are compiled)",
        domain.len()
    ));
    assert_eq!(changed.written.len(), 2);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

fn many(number: usize, item: impl Fn(usize) -> String) -> String {
    (0..number).map(item).collect()
}

fn example() -> Vec<u8> {
    std::fs::read(data().join("when-needed/look-alikes.xml")).unwrap()
}

/// Whatever comes, it comes without a panic; and what is changed is not changed again.
fn answers(xml: &[u8]) {
    let Ok(Outcome::Changed(changed)) = with_display(xml, &wanted(true)) else {
        return;
    };
    let again = with_display(&changed.xml, &wanted(true));
    assert!(matches!(again, Ok(Outcome::Unchanged(_))), "{again:?}");
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes: Vec<u8>) {
        answers(&bytes);
    }

    #[test]
    fn any_text_in_a_domain_gets_an_answer(text in "[<>/!?&;'\"= \\[\\]a-d:#x-]{0,60}") {
        answers(format!("<domain>{text}<devices/></domain>").as_bytes());
        answers(format!("<domain><devices {text}></devices></domain>").as_bytes());
        answers(text.as_bytes());
    }

    #[test]
    fn a_domain_with_wrong_bytes_gets_an_answer(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut xml = example();
        for (at, byte) in changes {
            let at = at.index(xml.len());
            xml[at] = byte;
        }
        answers(&xml);
    }

    #[test]
    fn a_part_of_a_domain_gets_an_answer(from: prop::sample::Index, to: prop::sample::Index) {
        let xml = example();
        let (from, to) = (from.index(xml.len()), to.index(xml.len()));
        answers(&xml[from.min(to)..from.max(to)]);
    }
}
