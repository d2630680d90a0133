//! What holds of every domain.

use mesa_node::domain::{Outcome, QEMU_NAMESPACE, Written, with_display};
use proptest::prelude::*;

use crate::common::{MODULE_DIR, after, wanted};

/// A domain in parts: what is not ours, and what may be there of ours.
#[derive(Debug, Clone)]
struct Domain {
    xml: String,
    needs_display: bool,
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[ \n\ta-z0-9é]{1,12}".prop_map(|it| it),
        Just("&amp;&#60;&lt;devices/&gt;".to_owned()),
        Just("<![CDATA[<devices></devices>]]>".to_owned()),
        Just("<!-- <graphics type='egl-headless'/> </devices> -->".to_owned()),
        Just("<?pi <devices>?>".to_owned()),
    ]
}

fn attribute() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-z]{1,6}".prop_map(|name| format!(" {name}='x y'")),
        "[a-z]{1,6}".prop_map(|name| format!("\n  {name} = \"'&quot;>\"")),
        Just(" xmlns:x='urn:x'".to_owned()),
    ]
}

/// An element that means nothing here, whatever its names remind of.
fn noise() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["os", "disk", "x-1", "gl", "env", "arg"]);
    let leaf = (name(), attribute(), text())
        .prop_map(|(name, attribute, text)| format!("<{name}{attribute}>{text}</{name}>"));
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let names = prop::sample::select(vec!["os", "metadata", "devices-2", "graphics2"]);
        let inner = prop::collection::vec(inner, 0..4);
        (names, attribute(), inner, text()).prop_map(|(name, attribute, inner, text)| {
            format!("<{name}{attribute}>{text}{}</{name} >", inner.concat())
        })
    })
}

fn device() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => noise(),
        1 => Just("<hostdev mode='subsystem' display='on' />".to_owned()),
        1 => Just("<hostdev display=\"off\"></hostdev>".to_owned()),
        1 => Just("<graphics type='vnc'><listen type='none'/></graphics>".to_owned()),
        1 => Just("<x:hostdev xmlns:x='urn:x' display='on'/>".to_owned()),
    ]
}

/// Somebody's options for QEMU, with the root's prefix, with one of their own, or with none.
fn section() -> impl Strategy<Value = String> {
    let options = prop::collection::vec(
        prop::sample::select(vec![
            "arg value='-s'",
            "env name='A' value='B'",
            "env name='QEMU_MODULE' value=''",
        ]),
        0..3,
    );
    (0..4, options).prop_map(|(form, options)| {
        let (prefix, declaration) = match form {
            0 => return String::new(),
            1 => ("qemu:", String::new()),
            2 => ("q:", format!(" xmlns:q='{QEMU_NAMESPACE}'")),
            _ => ("", format!(" xmlns=\"{QEMU_NAMESPACE}\"")),
        };
        let options: String = options
            .iter()
            .map(|it| format!("<{prefix}{it}/>"))
            .collect();
        format!("<{prefix}commandline{declaration}>{options}</{prefix}commandline>")
    })
}

fn domain() -> impl Strategy<Value = Domain> {
    let around = || prop::collection::vec(noise(), 0..3).prop_map(|it| it.concat());
    let devices = prop::collection::vec((device(), text()), 0..5);
    (around(), devices, around(), section(), around(), any::<bool>()).prop_map(
        |(before, devices, between, section, behind, declared)| {
            let devices: String = devices.into_iter().map(|(device, text)| device + &text).collect();
            let declared = declared || section.starts_with("<qemu:");
            let declaration = match declared {
                true => format!(" xmlns:qemu='{QEMU_NAMESPACE}'"),
                false => String::new(),
            };
            Domain {
                needs_display: devices.contains("<hostdev mode='subsystem' display='on' />"),
                xml: format!(
                    "<domain type='kvm'{declaration}>{before}<devices>{devices}</devices>{between}{section}{behind}</domain>\n"
                ),
            }
        },
    )
}

/// All that can have been written, in the order in which it is to be looked for.
fn without_ours(xml: &str) -> String {
    let env = |prefix: &str| format!("<{prefix}env name='QEMU_MODULE_DIR' value='{MODULE_DIR}'/>");
    let section = |declaration: &str| {
        format!(
            "<qemu:commandline{declaration}>{}</qemu:commandline>",
            env("qemu:")
        )
    };
    // Elements without content are in no generated domain, so these are ours.
    let new = [section(&format!(" xmlns:qemu='{QEMU_NAMESPACE}'"))];
    let rest = ["", "qemu:", "q:"].map(env);
    let mut xml = xml.replacen(
        "<graphics type='egl-headless'><gl rendernode='/dev/null'/></graphics>",
        "",
        1,
    );
    let last = section("") + "</domain>\n";
    if let Some(before) = xml.strip_suffix(&last) {
        // A section of ours, or one of somebody else that was empty.
        return format!("{before}</domain>\n");
    }
    for ours in new.iter().chain(&rest) {
        xml = xml.replacen(ours, "", 1);
    }
    xml
}

proptest! {
    #[test]
    fn what_is_not_ours_is_unchanged(domain in domain(), always: bool) {
        let outcome = with_display(domain.xml.as_bytes(), &wanted(always)).unwrap();
        let is_changed = matches!(outcome, Outcome::Changed(_));
        prop_assert_eq!(is_changed, always || domain.needs_display, "{}", outcome);
        if let Outcome::Changed(changed) = outcome {
            prop_assert_eq!(&changed.written, &[Written::Graphics, Written::ModuleDir]);
            let xml = String::from_utf8(changed.xml).unwrap();
            let emptied = domain.xml.replace("<qemu:commandline></qemu:commandline></domain>", "</domain>");
            let without = without_ours(&xml);
            prop_assert!(without == domain.xml || without == emptied, "{}\n{}", without, domain.xml);
        }
    }

    #[test]
    fn twice_is_once(domain in domain()) {
        let once = after(with_display(domain.xml.as_bytes(), &wanted(true)).unwrap(), b"");
        let twice = with_display(&once, &wanted(true)).unwrap();
        prop_assert_eq!(twice.to_string(), "unchanged: the GL display is there");
    }

    /// `KubeVirt`'s own types take away either or both.
    #[test]
    fn what_is_gone_is_written_anew(domain in domain(), gl: bool, section: bool) {
        let once = after(with_display(domain.xml.as_bytes(), &wanted(true)).unwrap(), b"");
        let mut lost = String::from_utf8(once).unwrap();
        if gl {
            lost = lost.replacen("<gl rendernode='/dev/null'/></graphics>", "</graphics>", 1);
        }
        if section {
            for prefix in ["", "q:", "qemu:"] {
                let env = format!("<{prefix}env name='QEMU_MODULE_DIR' value='{MODULE_DIR}'/>");
                lost = lost.replacen(&env, "", 1);
            }
        }
        let again = after(with_display(lost.as_bytes(), &wanted(true)).unwrap(), lost.as_bytes());
        let xml = String::from_utf8(again.clone()).unwrap();
        prop_assert_eq!(xml.matches("'QEMU_MODULE_DIR'").count(), 1);
        prop_assert_eq!(xml.matches("<gl rendernode='/dev/null'/></graphics>").count(), 1);
        let third = with_display(&again, &wanted(true)).unwrap();
        prop_assert_eq!(third.to_string(), "unchanged: the GL display is there");
    }
}
