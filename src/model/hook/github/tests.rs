use super::*;
use serde_json::{Value, json};

const DIGEST: &str = "sha256:fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf";
const COMMIT: &str = "6c62fb45fe66bfb1ea9a66abc38f6a0cc974292b";

/// With these fields over it, by JSON pointer.
fn with(mut told: Value, over: &[(&str, Value)]) -> Value {
    for (pointer, value) in over {
        *told.pointer_mut(pointer).expect(pointer) = value.clone();
    }
    told
}

fn package() -> Value {
    json!({
        "action": "published",
        "registry_package": {
            "id": 1, "name": "web", "namespace": "Octo", "ecosystem": "CONTAINER", "package_type": "CONTAINER",
            "html_url": "https://github.com/Octo/web/packages/1",
            "package_version": {
                "id": 2, "version": DIGEST, "name": DIGEST, "target_commitish": "main", "target_oid": "abc",
                "body": { "of any": ["shape"] },
                "container_metadata": {
                    "tag": { "name": "1.4", "digest": DIGEST },
                    "labels": {
                        "description": "The shop", "revision": "", "image_url": "", "licenses": "",
                        "all_labels": { "org.opencontainers.image.revision": COMMIT, "other": 7 }
                    },
                    "manifest": { "digest": DIGEST, "size": 1782, "layers": [] }
                },
                "package_url": "ghcr.io/Octo/web:1.4"
            }
        },
        "repository": { "full_name": "Octo/web" },
        "sender": { "login": "ann" }
    })
}

fn workflow() -> Value {
    json!({
        "action": "completed",
        "workflow_run": {
            "id": 3, "name": "Build", "head_branch": "main", "head_sha": COMMIT, "event": "push",
            "status": "completed", "conclusion": "success", "html_url": "https://github.com/Octo/web/actions/runs/3",
            "actor": { "login": "ann" }, "head_commit": { "message": "Mend the cart\n\nIt was broken." },
            "head_repository": { "full_name": "Octo/web" }
        },
        "repository": { "full_name": "Octo/web" },
        "sender": { "login": "ann" }
    })
}

/// What becomes of a delivery: its labels, `ignored`, or why it is malformed.
fn check(kind: &str, told: &Value, expect: &str) {
    let decoded = decode(kind, told.to_string().as_bytes(), Timestamp::UNIX_EPOCH).expect("readable");
    let found = match (&decoded.events[..], decoded.ignored, &decoded.malformed[..]) {
        ([event], 0, []) => event.labels.to_string(),
        ([], 1, []) => "ignored".to_string(),
        ([], 0, [bad]) => bad.why.clone(),
        _ => panic!("one of the three: {decoded:?}"),
    };
    assert!(found.contains(expect), "{told}: {found}");
}

#[test]
fn a_published_image_is_an_event_with_its_digest_and_its_commit() {
    let expect = format!(
        r#"{{author="ann", branch="main", commit="{COMMIT}", digest="{DIGEST}", event="image_pushed", git_repository="Octo/web", image="ghcr.io/octo/web:1.4@{DIGEST}", name="octo/web", registry="ghcr.io", repository="ghcr.io/octo/web", source="github", tag="1.4"}}"#
    );
    check("registry_package", &package(), &expect);
    let mut newer = package();
    let fields = newer.as_object_mut().expect("an object");
    let moved = fields.remove("registry_package").expect("it is there");
    fields.insert("package".into(), moved);
    check("package", &with(newer, &[("/action", "updated".into())]), &expect);
}

#[test]
fn a_digest_or_commit_that_is_none_is_left_out() {
    let version = "/registry_package/package_version";
    let at = |rest: &str| format!("{version}{rest}");
    let (tag, manifest) = (at("/container_metadata/tag/digest"), at("/container_metadata/manifest/digest"));
    let told = with(package(), &[(&tag, "sha256:1".into()), (&manifest, Value::Null)]);
    check("registry_package", &told, &format!("ghcr.io/octo/web:1.4@{DIGEST}"));
    let told = with(told, &[(&at("/version"), "1.4".into()), (&at("/container_metadata/labels"), Value::Null)]);
    check("registry_package", &told, r#"{author="ann", branch="main", event="image_pushed""#);
    check("registry_package", &told, r#"image="ghcr.io/octo/web:1.4""#);
}

#[test]
fn a_workflow_that_ended_well_is_an_event() {
    let expect = format!(
        r#"{{author="ann", branch="main", commit="{COMMIT}", conclusion="success", event="workflow_run", repository="Octo/web", source="github", trigger="push", workflow="Build"}}"#
    );
    check("workflow_run", &workflow(), &expect);
    let decoded = decode("workflow_run", workflow().to_string().as_bytes(), Timestamp::UNIX_EPOCH).expect("readable");
    assert_eq!(decoded.events[0].annotations.value("message"), "Mend the cart\n\nIt was broken.");
}

#[test]
fn what_deploys_nothing_is_ignored() {
    let tag = "/registry_package/package_version/container_metadata/tag/name";
    let container = "/registry_package/package_version/container_metadata";
    for over in [("/action", "deleted".into()), (tag, "".into()), (container, Value::Null)] {
        check("registry_package", &with(package(), &[over]), "ignored");
    }
    for over in [
        ("/action", "requested".into()),
        ("/workflow_run/conclusion", "failure".into()),
        ("/workflow_run/conclusion", Value::Null),
        ("/workflow_run/head_repository/full_name", "mallory/web".into()),
        ("/workflow_run/head_repository", Value::Null),
    ] {
        check("workflow_run", &with(workflow(), &[over]), "ignored");
    }
    check("workflow_run", &package(), "ignored");
    check("registry_package", &json!({}), "ignored");
    check("push", &json!(["anything"]), "ignored");
}

#[test]
fn what_cannot_be_deployed_is_malformed() {
    let url = "/registry_package/package_version/package_url";
    check("registry_package", &with(package(), &[(url, "ghcr.io/a b:1".into())]), "package_url");
    check("registry_package", &with(package(), &[(url, Value::Null)]), "package_url");
    let tag = "/registry_package/package_version/container_metadata/tag/name";
    check("registry_package", &with(package(), &[(tag, "a b".into())]), "tag must be");
    let branch = "/workflow_run/head_branch";
    check("workflow_run", &with(workflow(), &[(branch, "x".repeat(2_000).into())]), "branch is longer");
    for body in [&b""[..], b"hello", b"7", br#"{"action":7}"#, b"\xff"] {
        let error = decode("workflow_run", body, Timestamp::UNIX_EPOCH).expect_err("unreadable");
        assert!(error.line > 0, "{error}");
    }
}

#[test]
fn only_the_very_body_under_the_very_secret_is_signed() {
    // The example of GitHub's own documentation.
    let (secret, body) = (b"It's a Secret to Everybody", b"Hello, World!");
    let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let cases: [(&[u8], &[u8], &str, bool); 10] = [
        (secret, body, good, true),
        (secret, body, &good.to_uppercase().replace("SHA256", "sha256"), true),
        (secret, b"Hello, World?", good, false),
        (b"another", body, good, false),
        (b"", body, good, false),
        (secret, body, &good.replace("17", "18"), false),
        (secret, body, &good[..good.len() - 2], false),
        (secret, body, &good.replace("sha256", "sha1"), false),
        (secret, body, "", false),
        (secret, body, "sha256=zz", false),
    ];
    for (secret, body, header, expect) in cases {
        assert_eq!(signed(secret, body, header.as_bytes()), expect, "{header}");
    }
}
