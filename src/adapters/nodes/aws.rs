//! AWS auto-scaling groups. What is changed is the desired capacity, and which machine leaves; MinSize and MaxSize are the group's own, and only read.

use crate::config::AwsGroupConfig;
use crate::model::node_group::{GroupChange, Instance, InstanceState, NodeGroup};
use crate::ports::{ErrorKind, ErrorReason, PortError};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::{Builder, SharedHttpClient, http::HttpResponse};
use aws_sdk_autoscaling::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_autoscaling::types::{AutoScalingGroup as Described, LifecycleState};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long a call may take in all, and one try of it.
const TIMEOUT: Duration = Duration::from_secs(30);
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a reading is tried. A change is tried once: whether it went in is seen by looking, not by asking again.
const READ_TRIES: u32 = 3;

/// One auto-scaling group. Who we are to AWS is found out at the first call.
pub struct AutoScalingGroup {
    /// As the config names it, and as AWS does.
    name: String,
    group: String,
    config: AwsGroupConfig,
    client: OnceCell<Client>,
}

impl AutoScalingGroup {
    /// Nothing is sent. Errors (permanent) name the key that is wrong.
    pub fn new(name: &str, config: &AwsGroupConfig) -> Result<Self, PortError> {
        let wrong = |key: &str, why: String| {
            PortError::permanent(ErrorReason::Invalid, format!("node_groups.{name}.aws.{key}: {why}"))
        };
        let AwsGroupConfig { auto_scaling_group, endpoint_url, min, max, .. } = config;
        if auto_scaling_group.trim().is_empty() {
            return Err(wrong("auto_scaling_group", "it is empty; expected the name of an auto-scaling group".into()));
        }
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            return Err(wrong("min", format!("it is {min}, above max, which is {max}")));
        }
        if let Some(url) = endpoint_url
            && !reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        {
            return Err(wrong("endpoint_url", "it is no http:// or https:// URL".into()));
        }
        Ok(AutoScalingGroup {
            name: name.to_string(),
            group: auto_scaling_group.clone(),
            config: config.clone(),
            client: OnceCell::new(),
        })
    }

    async fn client(&self) -> &Client {
        self.client
            .get_or_init(|| async {
                let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http());
                if let Some(region) = &self.config.region {
                    loader = loader.region(Region::new(region.clone()));
                }
                if let Some(url) = &self.config.endpoint_url {
                    loader = loader.endpoint_url(url);
                }
                Client::from_conf(bounded(Builder::from(&loader.load().await)).build())
            })
            .await
    }

    pub async fn describe(&self) -> Result<NodeGroup, PortError> {
        let what = format!("describe auto-scaling group {}", self.group);
        let client = self.client().await;
        let call = client.describe_auto_scaling_groups().auto_scaling_group_names(&self.group);
        let mut pages = call.into_paginator().send();
        // Asked for one name, AWS may still answer an empty page and that there is more.
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.error(&what, &error, false))?;
            let found =
                page.auto_scaling_groups().iter().find(|group| group.auto_scaling_group_name() == Some(&self.group));
            if let Some(found) = found {
                return self.show(found);
            }
        }
        let message = format!(
            "there is no auto-scaling group {:?} in this region and account; set node_groups.{}.aws.auto_scaling_group and .region right",
            self.group, self.name
        );
        Err(PortError::permanent(ErrorReason::NotFound, message))
    }

    fn show(&self, found: &Described) -> Result<NodeGroup, PortError> {
        let number = |value: Option<i32>, what: &str| {
            value.and_then(|value| u64::try_from(value).ok()).ok_or_else(|| {
                let message = format!("AWS tells no {what} of auto-scaling group {}", self.group);
                PortError::transient(ErrorReason::Other, message)
            })
        };
        let desired = number(found.desired_capacity(), "desired capacity")?;
        let (min, max) = (number(found.min_size(), "MinSize")?, number(found.max_size(), "MaxSize")?);
        let instances = found.instances().iter().filter_map(|instance| {
            let id = instance.instance_id()?.to_string();
            Some(Instance { id, node: None, state: state(instance.lifecycle_state()) })
        });
        Ok(NodeGroup {
            name: self.name.clone(),
            desired,
            min: self.config.min.map_or(min, |narrower| narrower.max(min)),
            max: self.config.max.map_or(max, |narrower| narrower.min(max)),
            instances: instances.collect(),
        })
    }

    /// Makes one change that was found to be left to do.
    pub async fn change(&self, change: &GroupChange) -> Result<(), PortError> {
        let client = self.client().await;
        let once = Builder::new().retry_config(RetryConfig::disabled());
        match change {
            GroupChange::Resize { to, .. } => {
                let what = format!("set the desired capacity of auto-scaling group {} to {to}", self.group);
                let to = i32::try_from(*to).map_err(|_| {
                    PortError::permanent(ErrorReason::Invalid, format!("{what}: no group can be so large"))
                })?;
                let call = client.set_desired_capacity().auto_scaling_group_name(&self.group).desired_capacity(to);
                let sent = call.honor_cooldown(false).customize().config_override(once).send().await;
                sent.map(drop).map_err(|error| self.error(&what, &error, true))
            }
            GroupChange::Terminate { instance, .. } => {
                let what = format!("terminate {instance} of auto-scaling group {}", self.group);
                let call = client.terminate_instance_in_auto_scaling_group().instance_id(instance);
                let sent = call.should_decrement_desired_capacity(true).customize().config_override(once).send().await;
                sent.map(drop).map_err(|error| self.error(&what, &error, true))
            }
        }
    }

    /// `writes`: what was sent would have changed something.
    fn error<E>(&self, what: &str, error: &SdkError<E, HttpResponse>, writes: bool) -> PortError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        // The innermost cause may quote a whole answer.
        let told = crate::model::text::visible(&DisplayErrorContext(error).to_string(), 400);
        let in_doubt = if writes { ErrorKind::Unknown } else { ErrorKind::Transient };
        let (kind, reason, hint) = match error {
            SdkError::ConstructionFailure(_) => (ErrorKind::Permanent, ErrorReason::Invalid, WHO),
            SdkError::TimeoutError(_) => (in_doubt, ErrorReason::Timeout, ""),
            SdkError::DispatchFailure(failure) => match (
                came_to(failure.as_connector_error().map(|error| error as _), failure.is_other()),
                failure.is_timeout(),
            ) {
                (CameTo::Nothing, _) => (ErrorKind::Transient, ErrorReason::Unauthorized, WHO),
                (CameTo::NoConnection, timeout) => {
                    (ErrorKind::Transient, if timeout { ErrorReason::Timeout } else { ErrorReason::Unreachable }, "")
                }
                (CameTo::MaybeSent, true) => (in_doubt, ErrorReason::Timeout, ""),
                (CameTo::MaybeSent, false) => (in_doubt, ErrorReason::Unreachable, ""),
            },
            other => {
                let status = other.raw_response().map_or(0, |answer| answer.status().as_u16());
                let (kind, reason) = answered(other.code(), status, in_doubt);
                (kind, reason, if reason == ErrorReason::Unauthorized { POLICY } else { "" })
            }
        };
        PortError::new(kind, reason, format!("{what}: {told}{hint}"))
    }
}

const WHO: &str = "; are a region and credentials set, in the environment or by the instance's role?";
const POLICY: &str = "; docs/nodes.md has the policy that is needed";

/// How far a request got that was not answered.
#[derive(Clone, Copy, Debug, PartialEq)]
enum CameTo {
    /// Not even to a connection: there was no region, or nobody to sign it.
    Nothing,
    NoConnection,
    MaybeSent,
}

/// Whatever comes of the connection has an error of the HTTP client among its causes, and that one knows whether there was a connection. The kinds that the
/// SDK itself makes of them do not help: a connection that breaks behind a request may be "other", as is a request that nobody could sign.
///
/// `cause`: what the connector says; `other`: the SDK has no name for its kind.
fn came_to(mut cause: Option<&(dyn std::error::Error + 'static)>, other: bool) -> CameTo {
    while let Some(error) = cause {
        if let Some(client) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return if client.is_connect() { CameTo::NoConnection } else { CameTo::MaybeSent };
        }
        if error.is::<hyper::Error>() || error.is::<std::io::Error>() {
            return CameTo::MaybeSent;
        }
        cause = error.source();
    }
    if other { CameTo::Nothing } else { CameTo::MaybeSent }
}

fn http() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// Limits of every call of a client.
fn bounded(config: Builder) -> Builder {
    let timeout = TimeoutConfig::builder()
        .operation_timeout(TIMEOUT)
        .operation_attempt_timeout(TRY_TIMEOUT)
        .connect_timeout(TRY_TIMEOUT);
    config.timeout_config(timeout.build()).retry_config(RetryConfig::standard().with_max_attempts(READ_TRIES))
}

/// What an answer that is no success means, by AWS' code or, failing that, its status.
fn answered(code: Option<&str>, status: u16, in_doubt: ErrorKind) -> (ErrorKind, ErrorReason) {
    use ErrorKind::{Permanent, Transient};
    match code.unwrap_or_default() {
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequestsException" | "SlowDown" => {
            (Transient, ErrorReason::Throttled)
        }
        "ScalingActivityInProgress" | "ResourceContention" | "ResourceInUse" => (Transient, ErrorReason::Conflict),
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "AuthFailure"
        | "OptInRequired"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "SignatureDoesNotMatch"
        | "NotAuthorized" => (Permanent, ErrorReason::Unauthorized),
        // The instance's role is asked for new ones.
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => (Transient, ErrorReason::Unauthorized),
        "ValidationError" => (Permanent, ErrorReason::Invalid),
        _ => match status {
            429 => (Transient, ErrorReason::Throttled),
            401 | 403 => (Permanent, ErrorReason::Unauthorized),
            400..=499 => (Permanent, ErrorReason::Invalid),
            _ => (in_doubt, ErrorReason::Other),
        },
    }
}

/// AWS' lifecycle, in three words. A machine in standby runs, and keeps its node.
fn state(state: Option<&LifecycleState>) -> InstanceState {
    match state.map(LifecycleState::as_str).unwrap_or_default() {
        "InService" | "EnteringStandby" | "Standby" => InstanceState::InService,
        "Detaching" | "Detached" => InstanceState::Terminating,
        word if word.starts_with("Terminat") => InstanceState::Terminating,
        _ => InstanceState::Pending,
    }
}

#[cfg(test)]
#[path = "aws/tests.rs"]
mod tests;
