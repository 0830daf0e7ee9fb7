//! Reads query strings: names may repeat, an unknown one is an error with the nearest right one.

use crate::http::problem::Problem;
use crate::model::diagnostic::nearest;
use crate::model::duration::Duration;
use axum::extract::Query;
use axum::http::Uri;
use jiff::Timestamp;

/// Answers of lists hold this many unless asked for otherwise.
pub const PAGE: usize = 50;
/// And never more than this many.
pub const LARGEST_PAGE: usize = 500;

/// The pairs of a query, all of whose names are in `known`.
pub fn pairs(uri: &Uri, known: &[&str]) -> Result<Vec<(String, String)>, Problem> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| Problem::malformed(format!("the query string cannot be read: {error}")))?;
    match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        None => Ok(pairs),
        Some((name, _)) => Err(Problem::malformed(match nearest(name, known.iter().copied()) {
            Some(right) => format!("there is no parameter {name:?}; did you mean {right:?}?"),
            None => format!("there is no parameter {name:?}; there are {}", known.join(", ")),
        })),
    }
}

/// `limit`: from 1 to the largest page.
pub fn limit(value: &str) -> Result<usize, Problem> {
    match value.parse() {
        Ok(limit) if (1..=LARGEST_PAGE).contains(&limit) => Ok(limit),
        _ => Err(Problem::malformed(format!("limit is {value:?}; expected a number from 1 to {LARGEST_PAGE}"))),
    }
}

/// An id: `i42` or `42`.
pub fn id<T: std::str::FromStr<Err = String>>(value: &str) -> Result<T, Problem> {
    value.parse().map_err(Problem::malformed)
}

/// An instant (`2026-11-23T05:00:00Z`) or a time ago (`1h30m`).
pub fn instant(name: &str, value: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    if let Ok(at) = value.parse() {
        return Ok(at);
    }
    let ago = Duration::parse(value).ok().and_then(|ago| now.checked_sub(ago.signed()).ok());
    ago.ok_or_else(|| {
        Problem::malformed(format!(
            "{name} is {value:?}; expected an instant such as 2026-11-23T05:00:00Z, or a time ago such as 1h30m"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_repeat_and_an_unknown_one_is_named_with_its_neighbour() {
        let uri: Uri = "/x?label=a%3Db&label=c%3D%C3%BC&state=open".parse().expect("a uri");
        let pairs = super::pairs(&uri, &["label", "state"]).expect("known names");
        let expect = [("label", "a=b"), ("label", "c=ü"), ("state", "open")];
        assert_eq!(pairs, expect.map(|(name, value)| (name.to_string(), value.to_string())));
        let uri: Uri = "/x?stat=open".parse().expect("a uri");
        let problem = super::pairs(&uri, &["label", "state"]).expect_err("an unknown name");
        assert!(problem.detail.contains("did you mean \"state\"?"), "{}", problem.detail);
    }

    #[test]
    fn times_are_instants_or_ago() {
        let now: Timestamp = "2026-11-23T05:00:00Z".parse().expect("an instant");
        let cases = [("2026-11-23T04:00:00Z", Some("2026-11-23T04:00:00Z")), ("90m", Some("2026-11-23T03:30:00Z"))];
        for (text, expect) in cases.into_iter().chain([("yesterday", None), ("", None), ("-1h", None)]) {
            let expect = expect.map(|at: &str| at.parse().expect("an instant"));
            assert_eq!(instant("since", text, now).ok(), expect, "{text}");
        }
    }
}
