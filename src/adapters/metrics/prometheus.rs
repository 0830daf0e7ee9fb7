//! Prometheus' query API: instant queries.

use super::api::{Api, Token};
use crate::model::label::Labels;
use crate::model::text::visible;
use crate::ports::{ErrorReason, PortError, Queries, Sample};
use async_trait::async_trait;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// A query whose answer is larger has forgotten to aggregate.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// The API of one Prometheus, or of what speaks like it.
pub struct Prometheus(Api);

impl Prometheus {
    /// `base` is what `prometheus.url` says, a path prefix included. The error says how to mend it.
    pub fn new(client: reqwest::Client, base: &str, token: Option<Token>) -> Result<Self, String> {
        Api::new(client, "Prometheus", "prometheus", base, token).map(Prometheus)
    }
}

#[async_trait]
impl Queries for Prometheus {
    async fn query(&self, expr: &str) -> Result<Vec<Sample>, PortError> {
        let form = [("query", expr), ("timeout", "15s")];
        decode(&self.0.ask("api/v1/query", &form, MAX_ANSWER_BYTES).await?)
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Element>),
    Scalar((Value, String)),
    Matrix(IgnoredAny),
    String(IgnoredAny),
}

#[derive(Deserialize)]
struct Element {
    metric: Labels,
    value: (Value, String),
}

fn decode(body: &[u8]) -> Result<Vec<Sample>, PortError> {
    let unreadable = |why: String| {
        let message = format!("Prometheus' API sent what cannot be read: {}", visible(&why, 300));
        PortError::transient(ErrorReason::Invalid, message)
    };
    let answer: Answer = serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))?;
    let number = |text: &str| match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        text => text.parse::<f64>().map_err(|_| unreadable(format!("the value {text:?} is no number"))),
    };
    match answer.data {
        Data::Vector(all) => {
            all.into_iter().map(|one| Ok(Sample { labels: one.metric, value: number(&one.value.1)? })).collect()
        }
        Data::Scalar((_, value)) => Ok(vec![Sample { labels: Labels::default(), value: number(&value)? }]),
        Data::Matrix(_) | Data::String(_) => {
            let message = "the expression gives a range or a text; expected an instant vector or a number";
            Err(PortError::permanent(ErrorReason::Invalid, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_and_numbers_are_samples() {
        let check = |data: &str, expect: Result<&str, &str>| {
            let body = format!("{{\"status\":\"success\",\"data\":{data}}}");
            let decoded = decode(body.as_bytes()).map(|all| {
                all.iter().map(|sample| format!("{}={}", sample.labels, sample.value)).collect::<Vec<_>>().join(" ")
            });
            match (decoded, expect) {
                (Ok(text), Ok(expect)) => assert_eq!(text, expect),
                (Err(error), Err(says)) => assert!(error.message.contains(says), "{error}"),
                (decoded, _) => panic!("{data}: {decoded:?}"),
            }
        };
        check(
            r#"{"resultType":"vector","result":[{"metric":{"service":"web"},"value":[1.5,"0.25"]},{"metric":{},"value":[1,"+Inf"]}]}"#,
            Ok(r#"{service="web"}=0.25 {}=inf"#),
        );
        check(r#"{"resultType":"vector","result":[]}"#, Ok(""));
        check(r#"{"resultType":"scalar","result":[1,"7"]}"#, Ok("{}=7"));
        check(r#"{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}"#, Ok("{}=NaN"));
        check(r#"{"resultType":"matrix","result":[]}"#, Err("expected an instant vector"));
        check(r#"{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}"#, Err("is no number"));
        check(r#"7"#, Err("cannot be read"));
    }
}
