//! The metrics that `/metrics` shows, under Prometheus' naming rules.

#[derive(Default)]
pub struct Metrics {}
