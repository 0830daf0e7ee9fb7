//! What Alertmanager really sends is read to the letter; what nobody should send is told with its place and costs nothing else.

use runbookd::model::alert::{Fingerprint, Status};
use runbookd::model::label::Labels;
use runbookd::model::payload::{Group, MAX_LABELS, MAX_MALFORMED, MAX_TEXT_BYTES, decode};
use std::fs;
use std::path::PathBuf;

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/alertmanager").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `receiver key truncated | name status fingerprint ended? | …`, one line a payload.
fn summary(group: &Group) -> String {
    let mut line = format!("{} {} cut off {}", group.receiver, group.key, group.truncated);
    for alert in &group.alerts {
        let ended = if alert.ends_at.is_some() { "ended" } else { "on" };
        line += &format!(" | {} {:?} {} {ended}", alert.name(), alert.status, alert.fingerprint);
    }
    line
}

#[test]
fn captured_payloads_are_read_to_the_letter() {
    let table = [
        (
            "1-firing-group.json",
            r#"web\.hook {}/{severity="critical"}:{alertname="HighLatency", service="web"} cut off 0 | HighLatency Firing 7adfef4bbe670a09 on | HighLatency Firing b14adfd8d04ac1e8 on"#,
        ),
        (
            "2-firing-unicode-control-char.json",
            r#"rb {}:{alertname="NodeDown"} cut off 0 | NodeDown Firing 257f5b973e1a6cbb on"#,
        ),
        (
            "3-firing-truncated.json",
            r#"bulk {}/{team="bulk"}:{team="bulk"} cut off 5 | Disk Firing 51dac8f59e5483a7 on | Disk Firing 2efcfd01b564a1d8 on | Disk Firing 185ab4baf9e72cbd on"#,
        ),
        ("4-partly-resolved.json", ""),
        ("5-resolved.json", ""),
        ("6-repeat-firing.json", ""),
        ("7-repeat-truncated.json", ""),
    ];
    for (name, expect) in table {
        let group = decode(&fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(group.malformed.is_empty(), "{name}: {:?}", group.malformed);
        assert_eq!(summary(&group), expect, "{name}");
        for alert in &group.alerts {
            assert_eq!(alert.fingerprint, Fingerprint::of(&alert.labels), "{name}: {}", alert.labels);
            assert_eq!(alert.ends_at.is_some(), alert.status == Status::Resolved, "{name}");
        }
    }
}
