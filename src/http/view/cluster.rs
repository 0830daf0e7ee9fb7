//! Services, and what a machine needs to join the Swarm.

use crate::model::cluster;
use crate::model::label::Labels;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceView {
    pub id: String,
    pub name: String,
    pub version: u64,
    pub image: String,
    pub mode: cluster::Mode,
    pub replicas: u64,
    pub running: u64,
    pub labels: Labels,
    pub container_labels: Labels,
    /// Names only.
    pub env: Vec<String>,
    pub limits: cluster::Limits,
    pub update: cluster::UpdateState,
    pub update_message: String,
}

impl From<cluster::Service> for ServiceView {
    fn from(service: cluster::Service) -> Self {
        ServiceView {
            id: service.id,
            name: service.name,
            version: service.version,
            image: service.image,
            mode: service.mode,
            replicas: service.replicas,
            running: service.running,
            labels: service.labels,
            container_labels: service.container_labels,
            env: service.env.into_keys().collect(),
            limits: service.limits,
            update: service.update,
            update_message: service.update_message,
        }
    }
}

/// What a machine needs to join the Swarm. Not printable: the token is the Swarm's secret.
#[derive(Serialize)]
pub struct JoinView {
    /// Addresses of managers, as in `10.0.0.1:2377`.
    pub managers: Vec<String>,
    pub token: String,
}
