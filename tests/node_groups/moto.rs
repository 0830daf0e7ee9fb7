//! The group at a moto, of its own for each case: the AWS SDK makes it, and then the adapter is all that speaks to it.

use super::Bench;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_autoscaling::Client;
use runbookd::adapters::nodes::ConfiguredGroups;
use runbookd::config::{AwsGroupConfig, NodeGroupConfig};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const REGION: &str = "eu-central-1";
/// Of the images that moto begins with.
const IMAGE: &str = "ami-12c6146b";

static MADE: AtomicU32 = AtomicU32::new(0);

pub async fn bench() -> Bench {
    let url = std::env::var("RUNBOOKD_TEST_MOTO").expect("RUNBOOKD_TEST_MOTO is a moto's address: see scripts/test");
    let name = format!("swarm-{}", MADE.fetch_add(1, Ordering::Relaxed));
    make(&url, &name).await;
    let config = AwsGroupConfig {
        auto_scaling_group: name,
        region: Some(REGION.into()),
        endpoint_url: Some(url),
        // The narrower of these and the group's own.
        min: Some(0),
        max: Some(4),
    };
    let config = BTreeMap::from([("workers".to_string(), NodeGroupConfig::Aws(config))]);
    Bench::new(move || Arc::new(ConfiguredGroups::new(&config).expect("a valid config")), None)
}

async fn make(url: &str, name: &str) {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http).region(Region::new(REGION));
    let client = Client::new(&loader.endpoint_url(url).load().await);
    let launch = client.create_launch_configuration().launch_configuration_name(name);
    launch.image_id(IMAGE).instance_type("t3.micro").send().await.expect("moto makes it");
    let group = client.create_auto_scaling_group().auto_scaling_group_name(name).launch_configuration_name(name);
    let group = group.min_size(1).max_size(9).desired_capacity(2).availability_zones(format!("{REGION}a"));
    group.send().await.expect("moto makes it");
}
