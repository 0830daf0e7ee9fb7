use super::*;
use crate::model::cluster::Mode;

/// A service `go-demo` with three replicas and these labels, without `com.df.`.
fn service(labels: &[(&str, &str)]) -> LiveService {
    LiveService {
        name: "go-demo".into(),
        image: "demo:1".into(),
        mode: Mode::Replicated,
        replicas: 3,
        running: 3,
        labels: labels.iter().map(|(name, value)| (format!("com.df.{name}"), value.to_string())).collect(),
        ports: Vec::new(),
        tasks: Vec::new(),
    }
}

#[test]
fn each_shortcut_becomes_promql_over_the_metrics_of_today() {
    let of = "{container_label_com_docker_swarm_service_name=\"go-demo\"}";
    let job = "{job=\"go-demo\"}";
    let used =
        format!("sum(node_memory_MemFree_bytes{job} + node_memory_Buffers_bytes{job} + node_memory_Cached_bytes{job})");
    let total = format!("sum(node_memory_MemTotal_bytes{job})");
    let root = "{mountpoint=\"/\", job=\"go-demo\"}";
    let fast = |le: &str| {
        format!(
            "sum(rate(http_server_resp_time_bucket{{job=\"go-demo\", le=\"{le}\"}}[5m])) / sum(rate(http_server_resp_time_count{job}[5m]))"
        )
    };
    let count = format!("count(container_memory_usage_bytes{of})");
    let by_instance = |text: &str| text.replace("sum(", "sum by (instance) (");
    for (condition, expr, labels) in [
        (
            "@service_mem_limit:0.8",
            format!("container_memory_usage_bytes{of} / container_spec_memory_limit_bytes{of} > 0.8"),
            "",
        ),
        (
            "@service_mem_limit_nobuff:0.8",
            format!(
                "(container_memory_usage_bytes{of} - container_memory_cache{of}) / container_spec_memory_limit_bytes{of} > 0.8"
            ),
            "",
        ),
        ("@node_mem_limit:0.8", by_instance(&format!("({total} - {used}) / {total} > 0.8")), ""),
        ("@node_mem_limit_total_above:0.8", format!("({total} - {used}) / {total} > 0.8"), "up node"),
        ("@node_mem_limit_total_below:0.4", format!("({total} - {used}) / {total} < 0.4"), "down node"),
        (
            "@node_fs_limit:0.8",
            format!(
                "(node_filesystem_size_bytes{root} - node_filesystem_free_bytes{root}) / node_filesystem_size_bytes{root} > 0.8"
            ),
            "",
        ),
        ("@resp_time_above:0.1,5m,0.99", format!("{} < 0.99", fast("0.1")), "up service"),
        ("@resp_time_below: 0.025, 5m, 0.75", format!("{} > 0.75", fast("0.025")), "down service"),
        (
            "@resp_time_server_error:5m,0.001",
            format!(
                "sum(rate(http_server_resp_time_count{{job=\"go-demo\", code=~\"5..\"}}[5m])) / sum(rate(http_server_resp_time_count{job}[5m])) > 0.001"
            ),
            " errors",
        ),
        ("@replicas_running", format!("{count} != 3"), "up node"),
        ("@replicas_less_than", format!("{count} < 3"), "up node"),
        ("@replicas_more_than", format!("{count} > 3"), "down node"),
    ] {
        let alerts = of_one(&[("alertName", "x"), ("alertIf", condition)]);
        let rule = alerts.unwrap_or_else(|error| panic!("{condition}: {error}"));
        assert_eq!(rule.expr, expr, "{condition}");
        let value = |name: &str| rule.labels.get(name).map(String::as_str).unwrap_or_default();
        assert_eq!((value("receiver"), value("service")), ("system", "go-demo"));
        let (scale, kind) = labels.split_once(' ').unwrap_or_default();
        assert_eq!((value("scale"), value("type")), (scale, kind), "{condition}");
        assert!(!rule.annotations["summary"].contains('$'), "{:?}", rule.annotations);
    }
}

fn of_one(labels: &[(&str, &str)]) -> Result<AlertRule, String> {
    super::of(&service(labels)).map(|mut rules| rules.remove(0))
}

#[test]
fn shortcuts_are_joined_and_then_add_no_labels() {
    let check = |condition: &str, shape: &str, summary: &str| {
        let rule = of_one(&[("alertName", "x"), ("alertIf", condition)]).expect(condition);
        let mut expr = rule.expr;
        for (sign, letter) in [("!=", "N"), ("<", "L"), (">", "M")] {
            let term = format!(
                "count(container_memory_usage_bytes{{{}}}) {sign} 3",
                OF_SERVICE.replace("$service", "\"go-demo\"")
            );
            expr = expr.replace(&term, letter);
        }
        assert_eq!(expr, shape, "{condition}");
        assert_eq!(rule.labels, BTreeMap::new());
        assert!(rule.annotations["summary"].contains(summary), "{:?}", rule.annotations);
    };
    check("@replicas_running_and_@replicas_less_than", "(N) and (L)", "is not 3 and The number");
    check(
        "@replicas_running_unless_@replicas_more_than_or_@replicas_less_than",
        "(N) unless (M) or (L)",
        "than 3 or The",
    );
}

#[test]
fn alerts_are_numbered_to_the_first_gap_and_what_a_service_says_itself_wins() {
    let rules = super::of(&service(&[
        ("alertName", "mem-limit"),
        ("alertIf", "@service_mem_limit:0.8"),
        ("alertFor", "90s"),
        ("alertLabels", "receiver=ops, severity = high,"),
        ("alertAnnotations", "summary=look,link=http://x/?a=b"),
        ("alertName.1", "one"),
        ("alertIf.1", "up == 0"),
        ("alertName.3", "three"),
    ]))
    .expect("valid");
    let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["godemo_memlimit", "godemo_one"]);
    assert_eq!(rules[0].wait.as_deref(), Some("1m30s"));
    let shown = |pairs: &BTreeMap<String, String>| format!("{pairs:?}");
    assert_eq!(shown(&rules[0].labels), r#"{"receiver": "ops", "service": "go-demo", "severity": "high"}"#);
    assert_eq!(shown(&rules[0].annotations), r#"{"link": "http://x/?a=b", "summary": "look"}"#);
    assert_eq!((rules[1].expr.as_str(), rules[1].labels.len(), &rules[1].wait), ("up == 0", 0, &None));
    assert_eq!(super::of(&service(&[])), Ok(Vec::new()));
}

#[test]
fn what_cannot_be_meant_is_an_error_that_names_service_and_label() {
    for (labels, label, says) in [
        (&[("alertName", "x")][..], "alertIf", "is missing"),
        (&[("alertName", ""), ("alertIf", "up")], "alertName", "is empty"),
        (&[("alertName", "x"), ("alertIf", "@service_mem_limt:1")], "alertIf", "did you mean @service_mem_limit?"),
        (
            &[("alertName", "x"), ("alertIf", "@service_mem_limit")],
            "alertIf",
            "0 values for @service_mem_limit, expected 1",
        ),
        (&[("alertName", "x"), ("alertIf", "@service_mem_limit:1 or up")], "alertIf", "expected a number"),
        (&[("alertName", "x"), ("alertIf", "@resp_time_above:0.1\"},5m,1")], "alertIf", "expected a number"),
        (&[("alertName", "x"), ("alertIf", "@resp_time_above:0.1,soon,1")], "alertIf", "is no duration"),
        (&[("alertName", "x"), ("alertIf", "up"), ("alertFor", "later")], "alertFor", "is no duration"),
        (&[("alertName", "x"), ("alertIf", "up"), ("alertLabels", "severity")], "alertLabels", "without ="),
        (&[("alertName", "x"), ("alertIf", "up"), ("alertLabels", "a-b=c")], "alertLabels", "expected letters"),
        (&[("alertName.1", "x"), ("alertIf.1", "up"), ("alertAnnotations.1", "x")], "alertAnnotations.1", "without ="),
    ] {
        let error = super::of(&service(labels)).expect_err(says);
        assert!(error.contains(&format!("label com.df.{label} of service go-demo")) && error.contains(says), "{error}");
    }
}
