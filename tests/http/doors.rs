//! Drop-in doors: the addresses and answers of the originals, the events that they become, and what a run makes of those.

use crate::stage::{Answer, Setup, Stage, TOKEN, request};
use runbookd::ports::Journal;
use serde_json::{Value, json};

const LISTENER: &str = "/v1/docker-flow-swarm-listener";

async fn open() -> Stage {
    Stage::with(Setup { doors: true, ..Setup::default() }).await
}

async fn ask(stage: &Stage, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    stage.raw(&request(method, path, headers, body.as_bytes())).await
}

#[tokio::test]
async fn doors_are_closed_unless_they_are_opened() {
    let stage = Stage::start().await;
    for (method, path) in [
        ("POST", "/v1/scale-service?service=web&scale=up"),
        ("POST", "/jenkins/job/service-scale/buildWithParameters?service=web&scale=1"),
        ("GET", "/v1/docker-flow-swarm-listener/get-services"),
    ] {
        let detail = ask(&stage, method, path, "", "").await.problem(404);
        assert!(detail.contains("doors.enabled"), "{path}: {detail}");
    }
    assert!(stage.journalled().await.is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn docker_scaler_is_asked_in_the_address_or_by_an_alert_and_the_address_wins() {
    let group = r#"{"groupLabels":{"service":"api","scale":"down","by":"2","alertname":"X"},"alerts":[{"labels":{}}]}"#;
    let scale = |service: &str, rest: &str| {
        format!("manual {{{rest}door=\"docker-scaler\", event=\"scale_service\", {service}}}")
    };
    let nodes = "manual {by=\"1\", door=\"docker-scaler\", event=\"scale_nodes\", scale=\"up\", type=\"worker\"}";
    let stage = open().await;
    let mut expect: Vec<Vec<String>> = Vec::new();
    for (path, body, event) in [
        ("scale-service?service=web&scale=up", "", scale("scale=\"up\", service=\"web\"", "")),
        ("scale-service?service=web&scale=up&by=3", "{}", scale("scale=\"up\", service=\"web\"", "by=\"3\", ")),
        ("scale-service", group, scale("scale=\"down\", service=\"api\"", "by=\"2\", ")),
        ("scale-service?service=web&by=1", group, scale("scale=\"down\", service=\"web\"", "by=\"1\", ")),
        ("scale-nodes?type=worker&by=1&scale=up", "", nodes.to_string()),
        ("reschedule-services", "", "manual {door=\"docker-scaler\", event=\"reschedule\"}".to_string()),
        (
            "reschedule-service?service=web",
            "",
            "manual {door=\"docker-scaler\", event=\"reschedule\", service=\"web\"}".to_string(),
        ),
    ] {
        let answer = ask(&stage, "POST", &format!("/v1/{path}"), "", body).await;
        assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("OK")), "{path}: {answer:?}");
        expect.push(vec![event]);
    }
    // Below a prefix, as its SERVER_PREFIX has it.
    let answer = ask(&stage, "POST", "/scaler/v1/scale-nodes?type=worker&by=1&scale=up", "", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    expect.push(vec![nodes.to_string()]);
    assert_eq!(stage.journalled().await, expect);
    for path in ["/v1/ping", "/scaler/v1/ping"] {
        let ping = ask(&stage, "GET", path, "", "").await;
        assert_eq!((ping.status, ping.body.as_str()), (200, ""));
    }
    stage.stop().await;
}

#[tokio::test]
async fn docker_scaler_says_what_is_wrong_in_its_own_shape() {
    let stage = open().await;
    for (path, body, word) in [
        ("scale-service?scale=up", "", "No service name"),
        ("scale-service?service=web", "", "No scale direction"),
        ("scale-service?service=web&scale=sideways", "", "Incorrect scale direction"),
        ("scale-service?service=web&scale=up&by=0", "", "from 1 to 100"),
        ("scale-service?service=web&scale=up&by=-1", "", "from 1 to 100"),
        ("scale-service?service=web&scale=up&by=4294967297", "", "from 1 to 100"),
        ("scale-service?service=a%20b&scale=up", "", "no name of a service"),
        ("scale-service?service=web&scale=up", "hello", "Unable to decode POST body"),
        ("scale-service?service=web&scale=up", r#"{"groupLabels":7}"#, "Unable to decode POST body"),
        ("scale-nodes?by=1&scale=up&type=any", "", "worker or manager"),
        ("reschedule-service", "", "No service name"),
    ] {
        let answer = ask(&stage, "POST", &format!("/v1/{path}"), "", body).await;
        assert_eq!((answer.status, &answer.json()["status"]), (400, &json!("NOK")), "{path}: {answer:?}");
        assert!(answer.json()["message"].as_str().is_some_and(|text| text.contains(word)), "{path}: {answer:?}");
    }
    assert!(stage.journalled().await.is_empty());
    stage.journal.fail(Some("disk full"));
    let answer = ask(&stage, "POST", "/v1/scale-service?service=web&scale=up", "", "").await;
    assert_eq!((answer.status, &answer.json()["status"]), (503, &json!("NOK")));
    stage.journal.fail(None);
    stage.stop().await;
}

#[tokio::test]
async fn the_jenkins_jobs_take_a_signed_number_and_answer_with_a_place_in_the_queue() {
    let stage = open().await;
    let scaled = |by: &str, scale: &str| {
        vec![format!(
            "manual {{by=\"{by}\", door=\"jenkins\", event=\"scale_service\", scale=\"{scale}\", service=\"web\"}}"
        )]
    };
    let mut expect = Vec::new();
    for (below, number, event) in [
        ("", "1", scaled("1", "up")),
        ("", "+2", scaled("2", "up")),
        ("", "%2B2", scaled("2", "up")),
        ("/jenkins", "-3", scaled("3", "down")),
    ] {
        let path = format!("{below}/job/service-scale/buildWithParameters?token=x&service=web&scale={number}");
        let answer = ask(&stage, "POST", &path, "", "{\"ignored\":").await;
        expect.push(event);
        let place = format!("location: /queue/item/{}/", expect.len());
        assert!(answer.status == 201 && answer.head.to_lowercase().contains(&place), "{answer:?}");
    }
    assert_eq!(ask(&stage, "POST", "/job/aws-scale/buildWithParameters?scale=-1", "", "").await.status, 201);
    let nodes = "manual {by=\"1\", door=\"jenkins\", event=\"scale_nodes\", scale=\"down\", type=\"worker\"}";
    expect.push(vec![nodes.to_string()]);
    assert_eq!(stage.journalled().await, expect);
    for query in ["service=web", "service=web&scale=0", "service=web&scale=--1", "scale=1", "service=&scale=1"] {
        let path = format!("/job/service-scale/buildWithParameters?{query}");
        assert_eq!(ask(&stage, "POST", &path, "", "").await.status, 400, "{query}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_token_opens_the_doors_and_jenkins_takes_it_in_the_address() {
    let stage = Stage::with(Setup { doors: true, token: true, ..Setup::default() }).await;
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let scale = "/v1/scale-service?service=web&scale=up";
    let in_address = format!("{scale}&token={TOKEN}");
    let jenkins = "/job/service-scale/buildWithParameters?service=web&scale=1";
    let with = |token: &str| format!("{jenkins}&token={token}");
    let services = format!("{LISTENER}/get-services");
    for (method, path, headers, status) in [
        ("POST", scale, "", 401),
        ("POST", &in_address, "", 401),
        ("POST", scale, &*bearer, 200),
        ("POST", jenkins, "", 403),
        ("POST", &with("another"), "", 403),
        ("POST", &with(TOKEN), "", 201),
        ("POST", jenkins, &bearer, 201),
        ("GET", &services, "", 401),
        ("GET", &services, &bearer, 200),
        ("GET", "/v1/ping", "", 401),
    ] {
        let answer = ask(&stage, method, path, headers, "").await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(!answer.head.contains(TOKEN) && !answer.body.contains(TOKEN), "{answer:?}");
    }
    assert_eq!(stage.journalled().await.len(), 3);
    let whole = format!("{:?}", stage.journalled().await);
    assert!(!whole.contains(TOKEN), "{whole}");
    stage.stop().await;
}

#[tokio::test]
async fn a_web_page_cannot_knock() {
    let stage = open().await;
    for header in ["Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        let answer = ask(&stage, "POST", "/v1/scale-service?service=web&scale=up", header, "").await;
        assert_eq!((answer.status, &answer.json()["status"]), (403, &json!("NOK")), "{header}");
        let answer = ask(&stage, "GET", &format!("{LISTENER}/notify-services"), header, "").await;
        assert_eq!(answer.status, 403, "{header}");
    }
    assert!(stage.journalled().await.is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn swarm_listener_tells_of_services_and_nodes_as_parameters() {
    let stage = open().await;
    let services = ask(&stage, "GET", &format!("{LISTENER}/get-services"), "", "").await.json();
    let web = json!({
        "serviceName": "web", "replicas": "2", "distribute": "true", "port": "8080", "scaleMax": "4"
    });
    assert_eq!(services, json!([web]), "worker does not ask to be told of");
    let nodes = ask(&stage, "GET", &format!("{LISTENER}/get-nodes"), "", "").await.json();
    for name in ["id", "hostname", "address", "versionIndex", "state", "role", "availability"] {
        assert!(nodes[0][name].is_string(), "{name}: {nodes}");
    }
    for path in ["ping", "notify-services"] {
        assert_eq!(ask(&stage, "GET", &format!("{LISTENER}/{path}"), "", "").await.json(), json!({ "Status": "OK" }));
    }
    let expect = "swarm {again=\"true\", com.df.notify=\"true\", com.df.port=\"8080\", com.df.scaleMax=\"4\", \
                  door=\"swarm-listener\", event=\"service_created\", image=\"shop/web:1\", service=\"web\"}";
    assert_eq!(stage.journalled().await, [[expect]]);
    stage.stop().await;
}

/// The replicas of `web`, when nothing is at work any more on the first `incidents` incidents; and the state of the newest.
async fn settled(stage: &Stage, incidents: usize) -> (u64, String) {
    let ended = |page: &Value| {
        let all = page["incidents"].as_array().expect("incidents");
        all.len() == incidents && all.iter().all(|one| one["state"] == "resolved" || one["state"] == "escalated")
    };
    let page = stage.until("/api/v1/incidents", ended).await;
    let services = stage.get("/api/v1/services").await.json();
    let all = services["services"].as_array().expect("services");
    let web = all.iter().find(|one| one["name"] == "web").expect("web");
    let state = page["incidents"][0]["state"].as_str().expect("a state");
    (web["replicas"].as_u64().expect("a number"), state.to_string())
}

#[tokio::test]
async fn docker_scaler_clamps_and_the_jenkins_job_fails_out_of_range() {
    let stage = Stage::with(Setup { doors: true, shipped: true, ..Setup::default() }).await;
    let jenkins = "/job/service-scale/buildWithParameters?service=web&scale=";
    for (at, (path, replicas, state)) in [
        ("/v1/scale-service?service=web&scale=up".to_string(), 3, "resolved"),
        ("/v1/scale-service?service=web&scale=up&by=9".to_string(), 4, "resolved"),
        (format!("{jenkins}1"), 4, "escalated"),
        (format!("{jenkins}-2"), 2, "resolved"),
        ("/v1/scale-service?service=web&scale=down&by=9".to_string(), 1, "resolved"),
        ("/v1/scale-nodes?type=worker&by=1&scale=up".to_string(), 1, "escalated"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = ask(&stage, "POST", &path, "", "").await;
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        assert_eq!(settled(&stage, at + 1).await, (replicas, state.to_string()), "{path}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_run_is_started_by_a_rule_that_takes_it_or_the_person_hears_why_not() {
    let stage = Stage::with(Setup { shipped: true, ..Setup::default() }).await;
    for (body, status, word) in [
        (r#"{"runbook":"scale_servce","by":"ann"}"#, 422, "did you mean \"scale_service\"?"),
        (r#"{"runbook":"scale_out","by":"ann"}"#, 422, "no rule with `on: manual` takes"),
        (r#"{"runbook":"scale_service","by":" "}"#, 400, "who asks"),
        (r#"{"runbook":"scale_service","by":"ann","set":{"event":"x"}}"#, 400, "cannot be set"),
        (r#"{"runbook":"scale_service","by":"ann","set":{"floor":"many"}}"#, 400, "must be a whole number"),
        (r#"{"runbook":"scale_service","by":"ann","set":{"floor":1.5}}"#, 400, "must be a whole number"),
        (r#"{"runbook":"scale_service","by":"ann","request":"a b"}"#, 400, "\"request\""),
        (r#"{"runbook":"scale_service","by":"ann","sets":{}}"#, 400, "sets"),
        (r#"{"runbook":"scale_service","by":"ann","set":{"door":"jenkins","service":"web"}}"#, 422, "event is \"run\""),
    ] {
        let detail = stage.post("/api/v1/runs", body.as_bytes()).await.problem(status);
        assert!(detail.contains(word), "{body}: {detail}");
    }
    assert!(stage.journalled().await.is_empty());
    stage.stop().await;
}

const ON_REQUEST: &str =
    "rules: [{ name: on-request, on: manual, match: ['event = run', 'runbook = scale_service', 'service =~ .+'],
  runbook: scale_service, allow: [{ scale: '{{ service }}' }] }]";

#[tokio::test]
async fn a_run_is_found_again_by_its_request_and_its_values_are_labels_and_parameters() {
    let stage = Stage::with(Setup { shipped: true, rules: ON_REQUEST, ..Setup::default() }).await;
    let body = br#"{"runbook":"scale_service","by":"ann","request":"r-1",
        "set":{"service":"worker","scale":"up","ceiling":"3","note":7}}"#;
    let answer = stage.post("/api/v1/runs", body).await;
    assert_eq!(
        (answer.status, answer.json()),
        (202, json!({ "intake": 1, "request": "r-1", "rules": ["on-request"] }))
    );
    let expect = "manual {by=\"ann\", ceiling=\"3\", event=\"run\", note=\"7\", request=\"r-1\", \
                  runbook=\"scale_service\", scale=\"up\", service=\"worker\"}";
    assert_eq!(stage.journalled().await, [[expect]]);
    let posts = stage.journal.intake_after(0, 1).await.expect("readable");
    let journalled: Value = serde_json::from_slice(&posts[0].post.body).expect("json");
    assert_eq!(journalled[0]["params"], json!({ "ceiling": 3 }), "read as the number that the runbook declares");
    let done = |page: &Value| page["incidents"][0]["state"] == "resolved";
    let page = stage.until("/api/v1/incidents?label=request=r-1", done).await;
    assert_eq!(page["incidents"][0]["rule"], "on-request");
    stage.stop().await;
}
