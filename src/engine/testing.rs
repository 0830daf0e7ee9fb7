//! Values for the tests of this folder.

use crate::model::cluster::{Limits, Mode, Service, UpdateState};
use crate::model::label::Labels;

pub fn service(name: &str, replicas: u64) -> Service {
    Service {
        id: format!("id-{name}"),
        name: name.into(),
        version: 7,
        image: "shop/web:1".into(),
        mode: Mode::Replicated,
        replicas,
        running: replicas,
        labels: Labels::default(),
        container_labels: Labels::default(),
        env: Default::default(),
        limits: Limits::default(),
        force_update: 0,
        update: UpdateState::None,
        update_message: String::new(),
        template_hash: "now".into(),
        previous_template_hash: Some("then".into()),
        ports: Vec::new(),
    }
}
