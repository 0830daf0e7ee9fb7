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
            r#"rb {}:{alertname="HighLatency", service="web"} cut off 0 | HighLatency Firing 7adfef4bbe670a09 on | HighLatency Firing 38c9a8f41954b656 on"#,
        ),
        (
            "2-firing-unicode-control-char.json",
            r#"rb {}:{alertname="NodeDown"} cut off 0 | NodeDown Firing 257f5b973e1a6cbb on"#,
        ),
        (
            "3-firing-truncated.json",
            r#"bulk {}/{team="bulk"}:{team="bulk"} cut off 5 | Disk Firing 51dac8f59e5483a7 on | Disk Firing 2efcfd01b564a1d8 on | Disk Firing 185ab4baf9e72cbd on"#,
        ),
        (
            "4-partly-resolved.json",
            r#"rb {}:{alertname="HighLatency", service="web"} cut off 0 | HighLatency Resolved 7adfef4bbe670a09 ended | HighLatency Firing 38c9a8f41954b656 on"#,
        ),
        (
            "5-resolved.json",
            r#"rb {}:{alertname="HighLatency", service="web"} cut off 0 | HighLatency Resolved 38c9a8f41954b656 ended"#,
        ),
        ("6-repeat-firing.json", r#"rb {}:{alertname="NodeDown"} cut off 0 | NodeDown Firing 257f5b973e1a6cbb on"#),
        (
            "7-repeat-truncated.json",
            r#"bulk {}/{team="bulk"}:{team="bulk"} cut off 5 | Disk Firing 51dac8f59e5483a7 on | Disk Firing 2efcfd01b564a1d8 on | Disk Firing 185ab4baf9e72cbd on"#,
        ),
        (
            "service-unhealthy-firing.json",
            r#"runbookd {}:{alertname="ServiceUnhealthy", service="web"} cut off 0 | ServiceUnhealthy Firing a501770bb86c922c on | ServiceUnhealthy Firing c78fa15f64f6614f on"#,
        ),
        (
            "service-unhealthy-resolved.json",
            r#"runbookd {}:{alertname="ServiceUnhealthy", service="web"} cut off 0 | ServiceUnhealthy Resolved a501770bb86c922c ended | ServiceUnhealthy Resolved c78fa15f64f6614f ended"#,
        ),
        (
            "update-failed-firing.json",
            r#"runbookd {}:{alertname="UpdateFailed", service="api"} cut off 0 | UpdateFailed Firing 7d89ac143dc21d67 on"#,
        ),
        (
            "update-failed-resolved.json",
            r#"runbookd {}:{alertname="UpdateFailed", service="api"} cut off 0 | UpdateFailed Resolved 7d89ac143dc21d67 ended"#,
        ),
        (
            "disk-almost-full-firing.json",
            r#"runbookd {}:{alertname="DiskAlmostFull"} cut off 0 | DiskAlmostFull Firing 5a93ad1b35dcdc0c on | DiskAlmostFull Firing a1c83f5cbce119ad on | DiskAlmostFull Firing d9948a0bc1baa0e2 on"#,
        ),
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

#[test]
fn control_characters_and_other_scripts_arrive_as_they_were_sent() {
    let group = decode(&fixture("2-firing-unicode-control-char.json")).expect("a captured payload");
    assert_eq!(group.common_annotations.value("summary"), "node-3 ist nicht erreichbar – 节点宕机 \u{7}");
    assert_eq!(group.alerts[0].annotations, group.common_annotations);
    assert_eq!(group.external_url, "http://alertmanager:9093");
    assert_eq!(group.alerts[0].starts_at.to_string(), "2026-11-23T04:51:58.367359632Z");
}

/// A whole alert, with `change` put into it as text: `("\"status\":\"firing\"", "")` leaves the status out.
fn alert_with(from: &str, to: &str) -> String {
    let whole =
        r#"{"status":"firing","labels":{"alertname":"A","n":"1"},"annotations":{},"startsAt":"2026-11-23T04:51:58Z"}"#;
    assert!(whole.contains(from), "{from}");
    whole.replacen(from, to, 1)
}

#[test]
fn a_bad_alert_costs_no_other() {
    let good = alert_with("", "");
    let many: String = (0..=MAX_LABELS).map(|n| format!(r#""l{n}":"x","#)).collect();
    let long = "x".repeat(MAX_TEXT_BYTES + 1);
    let table: Vec<(String, &str)> = vec![
        ("7".into(), "invalid type: integer `7`, expected an alert (an object)"),
        ("null".into(), "invalid type: null, expected an alert (an object)"),
        ("[]".into(), "invalid type: sequence, expected an alert (an object)"),
        ("{}".into(), "the alert has no labels"),
        (alert_with(r#"{"alertname":"A","n":"1"}"#, "{}"), "the alert has no labels"),
        (alert_with(r#"{"alertname":"A","n":"1"}"#, "null"), "the alert has no labels"),
        (
            alert_with(r#"{"alertname":"A","n":"1"}"#, "[]"),
            "invalid type: sequence, expected an object of names and strings for each label",
        ),
        (alert_with(r#""1""#, "1"), "label \"n\" must be a string: invalid type: integer `1`, expected a string"),
        (alert_with(r#""1""#, "null"), "label \"n\" must be a string: invalid type: null, expected a string"),
        (
            alert_with(r#""annotations":{}"#, r#""annotations":{"a":{}}"#),
            "annotation \"a\" must be a string: invalid type: map, expected a string",
        ),
        (
            alert_with(r#""status""#, r#""fingerprint":12,"status""#),
            "fingerprint: invalid type: integer `12`, expected a string",
        ),
        (alert_with(r#""status":"firing","#, ""), "missing field `status`"),
        (
            alert_with(r#""firing""#, r#""burning""#),
            "status: unknown variant `burning`, expected `firing` or `resolved`",
        ),
        (alert_with(r#","startsAt":"2026-11-23T04:51:58Z""#, ""), "missing field `startsAt`"),
        (alert_with("2026-11-23T04:51:58Z", "0001-01-01T00:00:00Z"), "missing field `startsAt`"),
        (alert_with("2026-11-23T04:51:58Z", "yesterday"), "startsAt: "),
        (alert_with(r#""n":"1""#, &format!(r#"{many}"n":"1""#)), "more than 256 of label"),
        (alert_with(r#""1""#, &format!("{long:?}")), "label \"n\" is longer than 65536 bytes"),
        (alert_with(r#""n":"1""#, &format!("{long:?}:\"1\"")), "is longer than 65536 bytes"),
        ("\"\u{202e}\u{7f}\"".into(), "invalid type: string"),
    ];
    for (bad, why) in table {
        let body = format!(r#"{{"alerts":[{good},{bad},{good}]}}"#);
        let shown: String = bad.chars().take(60).collect();
        let group = decode(body.as_bytes()).unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!((group.alerts.len(), group.malformed.len()), (2, 1), "{shown}");
        let told = &group.malformed[0];
        assert_eq!(told.index, 1, "{shown}");
        assert!(told.why.contains(why), "{shown}: {:?} lacks {why:?}", told.why);
        assert!(told.excerpt.chars().count() <= 200, "{shown}");
        assert!(!told.why.chars().chain(told.excerpt.chars()).any(|c| c.is_control() || c == '\u{202e}'), "{shown}");
    }
}

#[test]
fn what_is_kept_of_bad_alerts_is_bounded() {
    let body = format!(r#"{{"alerts":[{}{}]}}"#, "1,".repeat(9_999), alert_with("", ""));
    let group = decode(body.as_bytes()).expect("a readable envelope");
    assert_eq!((group.alerts.len(), group.malformed.len()), (1, MAX_MALFORMED));
    let last = group.malformed.last().expect("a hundred");
    assert!(last.why.contains("9899 more alerts"), "{}", last.why);
}

#[test]
fn what_can_never_be_read_is_refused_with_its_place() {
    let alerts = |field: &str| format!("{{{field},\n \"alerts\":[]}}").into_bytes();
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let table: Vec<(Vec<u8>, &str, usize, usize)> = vec![
        (b"".to_vec(), "EOF while parsing a value", 1, 0),
        (b"\0".to_vec(), "expected value", 1, 1),
        (b"alertname=x".to_vec(), "expected value", 1, 1),
        (b"null".to_vec(), "invalid type: null, expected an object with an array \"alerts\"", 1, 4),
        (b"[]".to_vec(), "invalid type: sequence, expected an object", 1, 0),
        (b"{}".to_vec(), "missing field `alerts`", 1, 2),
        (b"{\"alerts\":{}}".to_vec(), "invalid type: map, expected an array of alerts", 1, 10),
        (b"{\"alerts\":null}".to_vec(), "invalid type: null, expected an array of alerts", 1, 14),
        (b"{\"alerts\":[}".to_vec(), "expected value", 1, 12),
        (b"{\"alerts\":[\n{\"labels\":".to_vec(), "EOF while parsing a value", 2, 10),
        (b"{\"alerts\":[]} trailing".to_vec(), "trailing characters", 1, 15),
        (b"{\"alerts\":[\"\0\"]}".to_vec(), "control character", 1, 12),
        (b"{\n\n  \"alerts\":[\"\xff\"]}".to_vec(), "not UTF-8: unexpected byte 0xff", 3, 14),
        (alerts("\"groupKey\":5"), "groupKey: invalid type: integer `5`, expected a string", 1, 13),
        (alerts("\"receiver\":[]"), "receiver: invalid type: sequence", 1, 12),
        (alerts("\"truncatedAlerts\":-1"), "truncatedAlerts: invalid value: integer `-1`, expected u64", 1, 21),
        (alerts("\"commonLabels\":{\"a\":1}"), "commonLabels \"a\" must be a string", 1, 22),
        (deep(100_000).into_bytes(), "invalid type: sequence, expected an object", 1, 0),
        (
            format!("{{\"alerts\":{}", "{\"a\":".repeat(100_000)).into_bytes(),
            "invalid type: map, expected an array",
            1,
            10,
        ),
        (format!("{{\"alerts\":{}", "[".repeat(100_000)).into_bytes(), "EOF while parsing a list", 1, 100_010),
    ];
    for (body, message, line, column) in table {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let error = decode(&body).expect_err(&shown);
        assert!(error.message.contains(message), "{shown}: {error}");
        assert_eq!((error.line, error.column), (line, column), "{shown}: {error}");
        assert!(error.message.chars().count() <= 300, "{shown}");
    }
}

#[test]
fn what_is_unknown_missing_or_doubled_is_tolerated() {
    let one = alert_with("", "");
    let key = |body: &str| decode(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}")).key;
    let table = [
        (format!(r#"{{"alerts":[{one}],"groupKey":"k","version":"9","routeLabels":{{"a":[1,{{}}]}}}}"#), "k"),
        (format!(r#"{{"groupKey":"first","groupKey":"k","alerts":[7],"alerts":[{one}]}}"#), "k"),
        (format!(r#"{{"receiver":"r","groupLabels":{{"a":"1"}},"alerts":[{one}]}}"#), r#"r:{a="1"}"#),
        (format!(r#"{{"receiver":"r","groupKey":"","alerts":[{one}]}}"#), r#"r:{alertname="A"}"#),
        (format!(r#"{{"receiver":null,"groupKey":null,"commonLabels":null,"alerts":[{one}]}}"#), r#":{alertname="A"}"#),
        (r#"{"alerts":[]}"#.to_string(), ":{}"),
    ];
    for (body, expect) in table {
        assert_eq!(key(&body), expect, "{body}");
        let group = decode(body.as_bytes()).expect("read before");
        assert!(group.malformed.is_empty(), "{body}: {:?}", group.malformed);
    }
    // What nobody needs may be as deep as it likes.
    let deep = format!(r#"{{"x":{}{},"alerts":[{one}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(decode(deep.as_bytes()).expect("an unknown field").alerts.len(), 1);
}

#[test]
fn an_alert_without_a_fingerprint_of_alertmanagers_gets_the_one_it_would_have() {
    let labels: Labels = [("alertname", "A"), ("n", "1")].into_iter().collect();
    let own = Fingerprint::of(&labels);
    let table = [
        (r#""status""#, own),
        (r#""fingerprint":"7adfef4bbe670a09","status""#, Fingerprint(0x7adf_ef4b_be67_0a09)),
        (r#""fingerprint":"7ADFEF4BBE670A09","status""#, Fingerprint(0x7adf_ef4b_be67_0a09)),
        (r#""fingerprint":"","status""#, own),
        (r#""fingerprint":"abc","status""#, own),
        (r#""fingerprint":"+adfef4bbe670a09","status""#, own),
        (r#""fingerprint":null,"status""#, own),
    ];
    for (start, expect) in table {
        let body = format!(r#"{{"alerts":[{}]}}"#, alert_with(r#""status""#, start));
        let group = decode(body.as_bytes()).expect("a payload");
        assert_eq!(group.alerts.iter().map(|alert| alert.fingerprint).collect::<Vec<_>>(), [expect], "{start}");
    }
}

#[test]
fn only_a_resolved_alert_has_an_end() {
    let table = [
        (r#""status":"firing","endsAt":"2026-11-23T05:00:00Z""#, None),
        (r#""status":"firing","endsAt":"0001-01-01T00:00:00Z""#, None),
        (r#""status":"resolved","endsAt":"0001-01-01T00:00:00Z""#, None),
        (r#""status":"resolved""#, None),
        (r#""status":"resolved","endsAt":"2026-11-23T06:00:00+01:00""#, Some("2026-11-23T05:00:00Z")),
    ];
    for (change, expect) in table {
        let body = format!(r#"{{"alerts":[{}]}}"#, alert_with(r#""status":"firing""#, change));
        let group = decode(body.as_bytes()).expect("a payload");
        assert_eq!(group.alerts[0].ends_at.map(|at| at.to_string()).as_deref(), expect, "{change}");
    }
}
