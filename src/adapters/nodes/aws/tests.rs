//! The real SDK against doubles of AWS: what no AWS, and no moto, can be made to answer.

use super::*;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_autoscaling::config::{Credentials, SharedCredentialsProvider};
use axum::http::StatusCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

const GROUP: &str = "swarm-workers";
const RESIZE: GroupChange = GroupChange::Resize { from: 1, to: 2 };

fn terminate() -> GroupChange {
    GroupChange::Terminate { node: "node1".into(), instance: "i-1".into(), from: 2 }
}

fn group_at(url: &str, credentials: SharedCredentialsProvider) -> AutoScalingGroup {
    let config =
        AwsGroupConfig { auto_scaling_group: GROUP.into(), region: None, endpoint_url: None, min: None, max: None };
    let client = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(url)
        .credentials_provider(credentials)
        .http_client(http());
    let client = Client::from_conf(bounded(client).build());
    AutoScalingGroup {
        client: OnceCell::new_with(Some(client)),
        ..AutoScalingGroup::new("workers", &config).expect("valid")
    }
}

fn signed() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new("id", "key", None, None, "test"))
}

/// A server that answers each request, a form, as `answer` says; and how many there were.
async fn double(answer: fn(&str) -> (u16, String)) -> (AutoScalingGroup, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let asked = Arc::new(AtomicU32::new(0));
    let counter = asked.clone();
    let router = axum::Router::new().fallback(move |form: String| {
        counter.fetch_add(1, Ordering::Relaxed);
        let (status, body) = answer(&form);
        async move { (StatusCode::from_u16(status).expect("a status"), [("content-type", "text/xml")], body) }
    });
    tokio::spawn(axum::serve(listener, router).into_future());
    (group_at(&url, signed()), asked)
}

fn refusal(code: &str) -> String {
    format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>told by a test</Message></Error></ErrorResponse>"
    )
}

fn page(groups: &[&str], next: Option<&str>) -> String {
    let member = |name: &&str| {
        format!(
            "<member><AutoScalingGroupName>{name}</AutoScalingGroupName><MinSize>1</MinSize><MaxSize>9</MaxSize><DesiredCapacity>2</DesiredCapacity>\
             <DefaultCooldown>300</DefaultCooldown><HealthCheckType>EC2</HealthCheckType><CreatedTime>2026-01-01T00:00:00Z</CreatedTime>\
             <Instances><member><InstanceId>i-1</InstanceId><LifecycleState>InService</LifecycleState></member>\
             <member><InstanceId>i-2</InstanceId><LifecycleState>Terminating:Wait</LifecycleState></member>\
             <member><InstanceId>i-3</InstanceId><LifecycleState>Pending:Proceed</LifecycleState></member></Instances></member>"
        )
    };
    let next = next.map(|token| format!("<NextToken>{token}</NextToken>")).unwrap_or_default();
    let members: String = groups.iter().map(member).collect();
    format!(
        "<DescribeAutoScalingGroupsResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><DescribeAutoScalingGroupsResult>\
         <AutoScalingGroups>{members}</AutoScalingGroups>{next}</DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>"
    )
}

#[tokio::test]
async fn a_refusal_says_whether_to_try_again() {
    use ErrorKind::{Permanent, Transient, Unknown};
    let check = async |answer: fn(&str) -> (u16, String), reading, writing, reason, tries: u32| {
        let (group, asked) = double(answer).await;
        let error = group.describe().await.expect_err("refused");
        assert_eq!((error.kind, error.reason), (reading, reason), "{error}");
        assert!(error.message.contains("describe auto-scaling group swarm-workers"), "{error}");
        assert_eq!(asked.swap(0, Ordering::Relaxed), tries, "{error}");
        for change in [RESIZE, terminate()] {
            let error = group.change(&change).await.expect_err("refused");
            assert_eq!((error.kind, error.reason), (writing, reason), "{error}");
            assert_eq!(asked.swap(0, Ordering::Relaxed), 1, "a change is not sent twice: {error}");
        }
    };
    tokio::join!(
        check(|_| (400, refusal("Throttling")), Transient, Transient, ErrorReason::Throttled, READ_TRIES),
        check(|_| (403, refusal("AccessDenied")), Permanent, Permanent, ErrorReason::Unauthorized, 1),
        check(|_| (403, refusal("ExpiredToken")), Transient, Transient, ErrorReason::Unauthorized, 1),
        check(|_| (400, refusal("ValidationError")), Permanent, Permanent, ErrorReason::Invalid, 1),
        check(|_| (500, refusal("InternalFailure")), Transient, Unknown, ErrorReason::Other, READ_TRIES),
    );
}

#[tokio::test]
async fn a_group_on_a_later_page_is_found() {
    let answer = |form: &str| {
        let page = match form.contains("NextToken=more") {
            false => page(&["swarm-workers-2"], Some("more")),
            true => page(&["swarm", GROUP], None),
        };
        (200, page)
    };
    let (group, asked) = double(answer).await;
    let found = group.describe().await.expect("it is on the second page");
    assert_eq!((found.name.as_str(), found.desired, found.min, found.max), ("workers", 2, 1, 9));
    use InstanceState::{InService, Pending, Terminating};
    let states: Vec<_> = found.instances.iter().map(|instance| (instance.id.as_str(), instance.state)).collect();
    assert_eq!(states, [("i-1", InService), ("i-2", Terminating), ("i-3", Pending)]);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_group_that_is_on_no_page_is_not_found() {
    let (group, _) = double(|_| (200, page(&["swarm-workers-2"], None))).await;
    let error = group.describe().await.expect_err("there is none");
    assert_eq!((error.kind, error.reason), (ErrorKind::Permanent, ErrorReason::NotFound));
    assert!(error.message.contains("node_groups.workers.aws.auto_scaling_group"), "{error}");
}

async fn came_of(group: &AutoScalingGroup, change: &GroupChange) -> (ErrorKind, ErrorReason) {
    let error = group.change(change).await.expect_err("nobody answers");
    (error.kind, error.reason)
}

#[tokio::test]
async fn a_connection_that_breaks_behind_a_change_leaves_it_in_doubt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut begun = [0; 16];
            // What was sent has arrived, as far as the sender can tell.
            let _ = stream.read_exact(&mut begun).await;
        }
    });
    let group = group_at(&url, signed());
    for change in [RESIZE, terminate()] {
        assert_eq!(came_of(&group, &change).await, (ErrorKind::Unknown, ErrorReason::Unreachable));
    }
    let error = group.describe().await.expect_err("nobody answers");
    assert_eq!((error.kind, error.reason), (ErrorKind::Transient, ErrorReason::Unreachable), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_leaves_the_change_in_doubt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 64 << 10];
            let _ = stream.read(&mut request).await;
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n<Set")
                    .await;
        }
    });
    let (kind, _) = came_of(&group_at(&url, signed()), &RESIZE).await;
    assert_eq!(kind, ErrorKind::Unknown);
}

#[tokio::test]
async fn what_was_surely_not_sent_may_be_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    drop(listener);
    let refused = group_at(&url, signed());
    assert_eq!(came_of(&refused, &RESIZE).await, (ErrorKind::Transient, ErrorReason::Unreachable));
    let nobody = ProfileFileCredentialsProvider::builder()
        .configure(&ProviderConfig::without_region().with_http_client(http()))
        .profile_name("runbookd has no such profile")
        .build();
    let (group, asked) = double(|_| (500, String::new())).await;
    let config = group.client().await.config().to_builder();
    let unsigned = Client::from_conf(config.credentials_provider(nobody).build());
    let unsigned = AutoScalingGroup { client: OnceCell::new_with(Some(unsigned)), ..group };
    assert_eq!(came_of(&unsigned, &RESIZE).await, (ErrorKind::Transient, ErrorReason::Unauthorized));
    assert_eq!(asked.load(Ordering::Relaxed), 0, "nothing was sent");
}
