//! Alert rules out of a service's labels, as Docker Flow Monitor reads them: `com.df.alertName`, `alertIf`, `alertFor`, `alertLabels`, `alertAnnotations`,
//! and the same with `.1`, `.2` … up to the first gap. Its `@shortcuts` become PromQL over the metrics of today's cAdvisor and node exporter. Pure.

use super::live::LiveService;
use super::{routes, words};
use crate::model::diagnostic::nearest;
use serde::Serialize;
use std::collections::BTreeMap;

/// One rule, as Prometheus has it.
#[derive(Serialize, Debug, PartialEq)]
pub struct AlertRule {
    /// `service_alert`, without `-`.
    pub name: String,
    pub expr: String,
    #[serde(rename = "for")]
    pub wait: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// The operators that join shortcuts. Each stands between `_` and the `@` of the next.
const OPERATORS: [&str; 3] = ["and", "or", "unless"];

/// A shortcut: `@name:value,value`.
struct Shortcut {
    name: &'static str,
    values: &'static [ValueKind],
    /// PromQL; `$service` stands for the service's name within quotes, `$replicas` for its replicas, `$1` … for the values.
    expr: &'static str,
    /// With the same placeholders.
    summary: &'static str,
    /// Beside `receiver` and `service`.
    labels: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy)]
enum ValueKind {
    Number,
    Duration,
}

use ValueKind::{Duration, Number};

const OF_SERVICE: &str = "container_label_com_docker_swarm_service_name=$service";
const SCALE_UP: &[(&str, &str)] = &[("scale", "up"), ("type", "service")];
const SCALE_DOWN: &[(&str, &str)] = &[("scale", "down"), ("type", "service")];
const MORE_NODES: &[(&str, &str)] = &[("scale", "up"), ("type", "node")];
const FEWER_NODES: &[(&str, &str)] = &[("scale", "down"), ("type", "node")];

/// As its documentation has them. `$container` stands for `OF_SERVICE`.
const SHORTCUTS: [Shortcut; 12] = [
    Shortcut {
        name: "service_mem_limit",
        values: &[Number],
        expr: "container_memory_usage_bytes{$container} / container_spec_memory_limit_bytes{$container} > $1",
        summary: "Memory of the service $name is over $1",
        labels: &[],
    },
    Shortcut {
        name: "service_mem_limit_nobuff",
        values: &[Number],
        expr: "(container_memory_usage_bytes{$container} - container_memory_cache{$container}) \
               / container_spec_memory_limit_bytes{$container} > $1",
        summary: "Memory without buffers of the service $name is over $1",
        labels: &[],
    },
    Shortcut {
        name: "node_mem_limit",
        values: &[Number],
        expr: "(sum by (instance) (node_memory_MemTotal_bytes{job=$service}) - sum by (instance) \
               (node_memory_MemFree_bytes{job=$service} + node_memory_Buffers_bytes{job=$service} + node_memory_Cached_bytes{job=$service})) \
               / sum by (instance) (node_memory_MemTotal_bytes{job=$service}) > $1",
        summary: "Memory of a node is over $1",
        labels: &[],
    },
    Shortcut {
        name: "node_mem_limit_total_above",
        values: &[Number],
        expr: "(sum(node_memory_MemTotal_bytes{job=$service}) - sum(node_memory_MemFree_bytes{job=$service} \
               + node_memory_Buffers_bytes{job=$service} + node_memory_Cached_bytes{job=$service})) \
               / sum(node_memory_MemTotal_bytes{job=$service}) > $1",
        summary: "Memory of all nodes together is over $1",
        labels: MORE_NODES,
    },
    Shortcut {
        name: "node_mem_limit_total_below",
        values: &[Number],
        expr: "(sum(node_memory_MemTotal_bytes{job=$service}) - sum(node_memory_MemFree_bytes{job=$service} \
               + node_memory_Buffers_bytes{job=$service} + node_memory_Cached_bytes{job=$service})) \
               / sum(node_memory_MemTotal_bytes{job=$service}) < $1",
        summary: "Memory of all nodes together is below $1",
        labels: FEWER_NODES,
    },
    Shortcut {
        name: "node_fs_limit",
        values: &[Number],
        // The original asks for `fstype="aufs"`, which was the root of a node with Docker then.
        expr: "(node_filesystem_size_bytes{mountpoint=\"/\", job=$service} - node_filesystem_free_bytes{mountpoint=\"/\", job=$service}) \
               / node_filesystem_size_bytes{mountpoint=\"/\", job=$service} > $1",
        summary: "The file system of a node is used over $1",
        labels: &[],
    },
    Shortcut {
        name: "resp_time_above",
        values: &[Number, Duration, Number],
        expr: "sum(rate(http_server_resp_time_bucket{job=$service, le=\"$1\"}[$2])) \
               / sum(rate(http_server_resp_time_count{job=$service}[$2])) < $3",
        summary: "Response time of the service $name is above $1",
        labels: SCALE_UP,
    },
    Shortcut {
        name: "resp_time_below",
        values: &[Number, Duration, Number],
        expr: "sum(rate(http_server_resp_time_bucket{job=$service, le=\"$1\"}[$2])) \
               / sum(rate(http_server_resp_time_count{job=$service}[$2])) > $3",
        summary: "Response time of the service $name is below $1",
        labels: SCALE_DOWN,
    },
    Shortcut {
        name: "resp_time_server_error",
        values: &[Duration, Number],
        expr: "sum(rate(http_server_resp_time_count{job=$service, code=~\"5..\"}[$1])) \
               / sum(rate(http_server_resp_time_count{job=$service}[$1])) > $2",
        summary: "Error rate of the service $name is above $2",
        labels: &[("type", "errors")],
    },
    Shortcut {
        name: "replicas_running",
        values: &[],
        expr: "count(container_memory_usage_bytes{$container}) != $replicas",
        summary: "The number of running replicas of the service $name is not $replicas",
        labels: MORE_NODES,
    },
    Shortcut {
        name: "replicas_less_than",
        values: &[],
        expr: "count(container_memory_usage_bytes{$container}) < $replicas",
        summary: "The number of running replicas of the service $name is less than $replicas",
        labels: MORE_NODES,
    },
    Shortcut {
        name: "replicas_more_than",
        values: &[],
        expr: "count(container_memory_usage_bytes{$container}) > $replicas",
        summary: "The number of running replicas of the service $name is more than $replicas",
        labels: FEWER_NODES,
    },
];

/// The alerts of a service. The error names the service and the label that cannot be meant.
pub fn of(service: &LiveService) -> Result<Vec<AlertRule>, String> {
    routes::suffixes(service, "com.df.alertName").iter().map(|suffix| alert(service, suffix)).collect()
}

fn alert(service: &LiveService, suffix: &str) -> Result<AlertRule, String> {
    let label = |name: &str| format!("com.df.{name}{suffix}");
    let value = |name: &str| service.label(&label(name)).map(str::trim).filter(|value| !value.is_empty());
    let unfit = |name: &str, why: &str| service.unfit(&label(name), why);
    let name = value("alertName").ok_or_else(|| unfit("alertName", "is empty"))?;
    let condition = value("alertIf")
        .ok_or_else(|| unfit("alertIf", &format!("is missing: {} needs a condition", label("alertName"))))?;
    let wait = value("alertFor").map(words::duration).transpose().map_err(|why| unfit("alertFor", &why))?;
    let pairs = |name: &str| pairs(value(name).unwrap_or_default()).map_err(|why| unfit(name, &why));
    let Condition { expr, summary, labels: mut added } =
        Condition::of(service, condition).map_err(|why| unfit("alertIf", &why))?;
    // What the service says itself wins.
    added.extend(pairs("alertLabels")?);
    let mut annotations = BTreeMap::new();
    annotations.extend(summary.map(|text| ("summary".to_string(), text)));
    annotations.extend(pairs("alertAnnotations")?);
    let name = format!("{}_{name}", service.name).replace('-', "");
    Ok(AlertRule { name, expr, wait, labels: added, annotations })
}

/// `name=value,name=value`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let is_name = |name: &str| {
        let mut chars = name.chars();
        chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if is_name(name.trim()) => Ok((name.trim().to_string(), value.trim().to_string())),
        Some((name, _)) => Err(format!("has {name:?} for a name: expected letters, digits and _")),
        None => Err(format!("has {pair:?} without =: expected name=value,name=value")),
    };
    text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(pair).collect()
}

/// An `alertIf`, expanded.
struct Condition {
    expr: String,
    summary: Option<String>,
    labels: BTreeMap<String, String>,
}

impl Condition {
    fn of(service: &LiveService, text: &str) -> Result<Condition, String> {
        if !text.starts_with('@') {
            return Ok(Condition { expr: text.to_string(), summary: None, labels: BTreeMap::new() });
        }
        let mut terms = split(text);
        let (_, first) = terms.remove(0);
        let mut condition = Condition::of_one(service, first)?;
        if terms.is_empty() {
            return Ok(condition);
        }
        // None of several says alone what is to be done.
        condition.labels.clear();
        condition.expr = format!("({})", condition.expr);
        for (operator, term) in terms {
            let next = Condition::of_one(service, term)?;
            condition.expr.push_str(&format!(" {operator} ({})", next.expr));
            condition.summary =
                condition.summary.zip(next.summary).map(|(all, next)| format!("{all} {operator} {next}"));
        }
        Ok(condition)
    }

    fn of_one(service: &LiveService, term: &str) -> Result<Condition, String> {
        let (name, values) = term.split_once(':').unwrap_or((term, ""));
        let name = name.trim_start_matches('@').trim();
        let Some(shortcut) = SHORTCUTS.iter().find(|shortcut| shortcut.name == name) else {
            let known = SHORTCUTS.iter().map(|shortcut| shortcut.name);
            let help = nearest(name, known).map(|near| format!("; did you mean @{near}?")).unwrap_or_default();
            return Err(format!("has no known shortcut @{name}{help}"));
        };
        let values = shortcut.values(values)?;
        let quoted = format!("{:?}", service.name);
        let fill = |text: &str, service_name: &str| {
            let mut text = text
                .replace("$container", OF_SERVICE)
                .replace("$service", service_name)
                .replace("$name", &service.name)
                .replace("$replicas", &service.replicas.to_string());
            for (at, value) in values.iter().enumerate() {
                text = text.replace(&format!("${}", at + 1), value);
            }
            text
        };
        let own = shortcut.labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let common = [("receiver", "system"), ("service", &service.name)];
        let common = common.map(|(name, value)| (name.to_string(), value.to_string()));
        Ok(Condition {
            expr: fill(shortcut.expr, &quoted),
            summary: Some(fill(shortcut.summary, &service.name)),
            labels: common.into_iter().chain(own).collect(),
        })
    }
}

impl Shortcut {
    /// The values after the colon, as many as it takes and each of its kind.
    fn values(&self, text: &str) -> Result<Vec<String>, String> {
        let given: Vec<&str> = text.split(',').map(str::trim).filter(|value| !value.is_empty()).collect();
        if given.len() != self.values.len() {
            return Err(format!("has {} values for @{}, expected {}", given.len(), self.name, self.values.len()));
        }
        let one = |(kind, value): (&ValueKind, &str)| match kind {
            Number => match value.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(value.to_string()),
                _ => Err(format!("has {value:?} for @{}, expected a number such as 0.8", self.name)),
            },
            Duration => words::duration(value).map_err(|why| format!("has {value:?} for @{}, which {why}", self.name)),
        };
        self.values.iter().zip(given).map(one).collect()
    }
}

/// The shortcuts of a condition, each with the operator before it.
fn split(text: &str) -> Vec<(&'static str, &str)> {
    let mut terms = Vec::new();
    let (mut operator, mut rest) = ("", text);
    loop {
        let next = OPERATORS
            .iter()
            .filter_map(|operator| Some((rest.find(&format!("_{operator}_@"))?, *operator)))
            .min_by_key(|(at, _)| *at);
        let Some((at, found)) = next else {
            terms.push((operator, rest.trim()));
            return terms;
        };
        terms.push((operator, rest[..at].trim()));
        // Behind both underscores.
        rest = &rest[at + found.len() + 2..];
        operator = found;
    }
}

#[cfg(test)]
mod tests;
