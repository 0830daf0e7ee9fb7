//! Asks Alertmanager's API, every so often and when a group was cut off, what really fires (DESIGN §7).

use super::Parts;
use super::dispatcher::Input;
use crate::ports::Alerts;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// How long a start waits for the first answer before it goes on without.
pub const AT_START: Duration = Duration::from_secs(5);

pub async fn run(parts: Arc<Parts>, alerts: Arc<dyn Alerts>, inbox: mpsc::UnboundedSender<Input>, now: Arc<Notify>) {
    loop {
        tokio::select! {
            biased;
            () = tokio::time::sleep(parts.config.incidents.reconcile_every.std()) => {}
            () = now.notified() => {}
        }
        let asked = parts.clock.now();
        let known = alerts.alerts().await;
        if let Err(error) = &known {
            tracing::warn!(reason = %error.reason, %error, "cannot reconcile with Alertmanager");
        }
        if inbox.send(Input::Reconciled { asked, known }).is_err() {
            return;
        }
    }
}
