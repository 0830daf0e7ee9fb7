//! `runbookd explain`: which rule an alert falls under, why, and why no other.

use super::{check, render};
use crate::config::Config;
use crate::engine::route::{Explained, Explanation, explain};
use crate::model::event::On;
use crate::model::label::Labels;
use crate::model::mode::Mode;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Explain what would become of an alert, without a server.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ExplainArgs {
    /// Labels of one alert: alertname=HighLatency service=web; or `-` for JSON from standard input
    #[arg(value_name = "LABEL=VALUE")]
    pub labels: Vec<String>,
    /// A JSON file: Alertmanager's payload, one alert, or a map of labels
    #[arg(short, long, value_name = "FILE", conflicts_with = "labels")]
    pub file: Option<PathBuf>,
    /// Explain an event instead: swarm, deploy, schedule or manual
    #[arg(long, value_name = "KIND")]
    pub on: Option<String>,
    /// The directory of rules [default: the configuration's]
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
    /// The directory of runbooks [default: the configuration's]
    #[arg(long, value_name = "DIR")]
    pub runbooks: Option<PathBuf>,
}

/// Exit code 0: every alert falls under a rule; 1: one falls under none, or the rules are not valid; 2: the alert cannot be read.
pub fn run(args: ExplainArgs, json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let alerts = match alerts(&args) {
        Ok(alerts) => alerts,
        Err(message) => {
            eprintln!("runbookd explain: {message}");
            return Ok(ExitCode::from(2));
        }
    };
    let on = match args.on.as_deref().map(kind).transpose() {
        Ok(on) => on,
        Err(message) => {
            eprintln!("runbookd explain: {message}");
            return Ok(ExitCode::from(2));
        }
    };
    let catalog = match check::load(args.rules, args.runbooks, config) {
        Ok(catalog) => catalog,
        Err(findings) => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            eprintln!("{}", render::diagnostics(&findings, colour));
            return Ok(ExitCode::from(1));
        }
    };
    let explanations: Vec<Explanation> =
        alerts.iter().map(|labels| explain(&catalog, config.max_mode, on, labels)).collect();
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &explanations)?;
        writeln!(out)?;
    } else {
        let shown: Vec<String> = explanations.iter().map(show).collect();
        write!(out, "{}", shown.join("\n"))?;
    }
    let all = explanations.iter().all(|explanation| !explanation.matched.is_empty());
    Ok(ExitCode::from(if all { 0 } else { 1 }))
}

/// A kind of event by its name in rules.
fn kind(text: &str) -> Result<On, String> {
    let known = || On::ALL.into_iter().map(On::name);
    On::ALL.into_iter().find(|on| on.name() == text).ok_or_else(|| {
        format!(
            "--on {text}: there is no such kind of event; expected one of {}",
            known().collect::<Vec<_>>().join(", ")
        )
    })
}

/// Label sets of the alerts that the arguments name; never empty.
fn alerts(args: &ExplainArgs) -> Result<Vec<Labels>, String> {
    const MAX_BYTES: u64 = 32 << 20;
    let read = |reader: &mut dyn Read, what: &Path| {
        let mut text = String::new();
        reader
            .take(MAX_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| format!("{} cannot be read: {error}", what.display()))?;
        from_json(&text).map_err(|message| format!("{}: {message}", what.display()))
    };
    let (file, pairs) = (&args.file, &args.labels[..]);
    if file.as_deref().is_some_and(|file| file == "-") || pairs == ["-"] {
        return read(&mut std::io::stdin().lock(), Path::new("standard input"));
    }
    if let Some(path) = file {
        let mut opened =
            std::fs::File::open(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        return read(&mut opened, path);
    }
    if pairs.is_empty() {
        return Err("name an alert: alertname=HighLatency service=web, or a JSON file with -f FILE".to_string());
    }
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is no LABEL=VALUE"))?;
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        Ok::<_, String>((name.trim().to_string(), quoted.unwrap_or(value).to_string()))
    };
    Ok(vec![pairs.iter().map(pair).collect::<Result<Vec<_>, _>>()?.into_iter().collect()])
}

/// Alertmanager's payload, a list of alerts, one alert, or a map of labels.
fn from_json(text: &str) -> Result<Vec<Labels>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("this is no JSON: {error}"))?;
    let one = |value: &Value| {
        let labels = value.get("labels").unwrap_or(value);
        serde_json::from_value::<Labels>(labels.clone()).map_err(|error| format!("these are no labels: {error}"))
    };
    let all = match value.get("alerts").unwrap_or(&value) {
        Value::Array(alerts) => alerts.iter().map(one).collect::<Result<Vec<_>, _>>()?,
        value => vec![one(value)?],
    };
    if all.is_empty() { Err("there is no alert in it".to_string()) } else { Ok(all) }
}

/// For people; ends with a line end.
fn show(explanation: &Explanation) -> String {
    let mut text = match explanation.on {
        None => format!("alert {}\n", explanation.labels),
        Some(on) => format!("{on} event {}\n", explanation.labels),
    };
    if explanation.matched.is_empty() {
        text.push_str(match explanation.on {
            None => "  no rule matches: people are told, once for its group\n",
            Some(_) => "  no rule takes it: it is counted, and nothing else happens\n",
        });
    }
    for matched in &explanation.matched {
        show_matched(matched, &mut text);
    }
    for rule in &explanation.not_reached {
        let _ = writeln!(text, "  not reached: {rule} matches too, but an earlier rule does not continue");
    }
    if !explanation.closest.is_empty() {
        text.push_str("  came close:\n");
    }
    for near in &explanation.closest {
        let _ = writeln!(text, "    {} ({}), {} of {} matchers", near.rule, near.place, near.matched, near.of);
        for kept in &near.kept_from {
            let _ = writeln!(text, "      {kept}");
        }
    }
    text
}

fn show_matched(matched: &Explained, text: &mut String) {
    let _ = writeln!(text, "  rule {} ({})", matched.rule, matched.place);
    let width = matched.because.iter().map(|because| because.matcher.chars().count()).max().unwrap_or(0);
    for because in &matched.because {
        let seen = match &because.value {
            Some(value) => format!("it is {value:?}"),
            None => "there is no such label".to_string(),
        };
        let _ = writeln!(text, "    because   {:width$}   {seen}", because.matcher);
    }
    let _ = writeln!(text, "    incident  {}", matched.key);
    if let Some(runbook) = &matched.runbook {
        let _ = writeln!(text, "    runbook   {runbook} {}", matched.params);
        let asks = match matched.mode {
            Mode::Shadow => "nothing is done: people hear what would have been",
            Mode::Approve => "a person approves what is to be done",
            Mode::Earned => "a person approves it, until its runs have helped often enough",
            Mode::Auto => "it runs by itself",
        };
        let _ = match matched.mode == matched.rule_mode {
            true => writeln!(text, "    mode      {}: {asks}", matched.mode),
            false => {
                let says = matched.rule_mode;
                writeln!(
                    text,
                    "    mode      {}, by max_mode of the configuration (the rule says {says}): {asks}",
                    matched.mode
                )
            }
        };
        let may = if matched.allow.is_empty() { "change nothing".to_string() } else { matched.allow.join(", ") };
        let _ = writeln!(text, "    may       {may}");
    }
    if let Some(reason) = &matched.escalates {
        let _ = writeln!(text, "    escalates at once: {}", reason.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::matcher::Matcher;
    use crate::model::rule::Rule;
    use crate::runbook::catalog::Catalog;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    #[test]
    fn an_alert_is_read_from_every_shape() {
        let alert = r#"{"alertname":"A","service":"web"}"#;
        let labels: Labels = [("alertname", "A"), ("service", "web")].into_iter().collect();
        for text in [
            alert.to_string(),
            format!(r#"{{"labels":{alert},"status":"firing"}}"#),
            format!(r#"[{{"labels":{alert}}}]"#),
            format!(r#"{{"version":"4","alerts":[{{"labels":{alert}}}]}}"#),
        ] {
            assert_eq!(from_json(&text), Ok(vec![labels.clone()]), "{text}");
        }
        for (text, why) in [
            ("{", "no JSON: EOF while parsing an object at line 1 column 1"),
            (r#"{"alerts":[]}"#, "no alert in it"),
            (r#"{"a":1}"#, "no labels"),
        ] {
            let error = from_json(text).expect_err(text);
            assert!(error.contains(why), "{error}");
        }
        let pairs = |labels: &[&str]| {
            let labels = labels.iter().map(|text| text.to_string()).collect();
            alerts(&ExplainArgs { labels, ..ExplainArgs::default() })
        };
        assert_eq!(pairs(&["alertname=A", "service=\"web\""]), Ok(vec![labels]));
        assert_eq!(pairs(&["web"]), Err("\"web\" is no LABEL=VALUE".to_string()));
        assert!(pairs(&[]).is_err());
    }

    #[test]
    fn people_read_which_rule_and_why_not_the_others() {
        let rule = |name: &str, matchers: &[&str], by: &[&str]| {
            let matchers = matchers.iter().map(|text| Matcher::parse(text).expect(text)).collect();
            let mut rule = Rule::matching(name, matchers);
            rule.by = by.iter().map(|label| label.to_string()).collect();
            rule.place = "rules/a.yaml:2".to_string();
            Arc::new(rule)
        };
        let rules = vec![
            rule("slow", &["alertname = Slow", "severity != info"], &["service"]),
            rule("full", &["alertname = DiskFull", "service = web"], &[]),
            rule("any", &["service =~ \".+\""], &[]),
        ];
        let catalog = Catalog::new(rules, BTreeMap::new());
        let labels: Labels = [("alertname", "Slow"), ("service", "web")].into_iter().collect();
        let expect = r#"alert {alertname="Slow", service="web"}
  rule slow (rules/a.yaml:2)
    because   alertname="Slow"   it is "Slow"
    because   severity!="info"   there is no such label
    incident  service="web"
    escalates at once: the rule slow hands over to people
  not reached: any matches too, but an earlier rule does not continue
  came close:
    full (rules/a.yaml:2), 1 of 2 matchers
      alertname is "Slow", the rule wants alertname="DiskFull"
"#;
        assert_eq!(show(&explain(&catalog, Mode::Auto, None, &labels)), expect);
        let nothing = show(&explain(&Catalog::default(), Mode::Auto, None, &labels));
        assert!(nothing.contains("no rule matches"), "{nothing}");
    }
}
