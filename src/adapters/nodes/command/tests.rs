use super::*;
use crate::model::duration;
use crate::ports::ErrorKind::{Permanent, Transient, Unknown};

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// A group whose programs are small scripts for `sh`: what is an argument to them is what they get.
fn config(describe: &str, resize: &str, terminate: &str) -> CommandGroupConfig {
    CommandGroupConfig {
        describe: words(&["sh", "-c", describe]),
        resize: words(&["sh", "-c", resize, "--", "{group}", "--to={desired}"]),
        terminate: words(&["sh", "-c", terminate, "--", "{instance}", "{node}"]),
        timeout: Some(duration::Duration::from_secs(20)),
        min: 0,
        max: 5,
    }
}

fn group(describe: &str, resize: &str, terminate: &str) -> CommandGroup {
    CommandGroup::new("workers", &config(describe, resize, terminate)).expect("a valid config")
}

#[tokio::test]
async fn what_describe_prints_is_read_strictly() {
    let check = async |printed: &str, expect: Result<usize, &str>| {
        let found = group(&format!("cat <<'END'\n{printed}\nEND"), "", "").describe().await;
        match (found, expect) {
            (Ok(found), Ok(count)) => assert_eq!(found.instances.len(), count, "{printed}"),
            (Err(error), Err(words)) => {
                assert_eq!((error.kind, error.reason), (Permanent, ErrorReason::Invalid), "{printed}");
                assert!(error.message.contains(words) && error.message.contains("workers"), "{printed}: {error}");
            }
            (found, expect) => panic!("{printed}: {found:?}, expected {expect:?}"),
        }
    };
    check(r#"{"desired":0,"instances":[]}"#, Ok(0)).await;
    let two =
        r#"{"desired":2,"instances":[{"id":"i-1","node":"n1","state":"in_service"},{"id":"i-2","state":"pending"}]}"#;
    check(two, Ok(2)).await;
    check(r#"{"desired":1,"instances":[{"id":"i-1","node":null,"state":"terminating"}]}"#, Ok(1)).await;
    check("", Err("cannot be read")).await;
    check(r#"{"desired":-1,"instances":[]}"#, Err("cannot be read")).await;
    check(r#"{"desired":1,"instances":[],"min":0}"#, Err("unknown field `min`")).await;
    check(r#"{"desired":1,"instances":[{"id":"i-1","state":"asleep"}]}"#, Err("asleep")).await;
    check(r#"{"desired":1,"instances":[{"id":"--all","state":"pending"}]}"#, Err("--all")).await;
    check(r#"{"desired":1,"instances":[{"id":"a","node":"x y","state":"pending"}]}"#, Err("x y")).await;
    check(r#"{"desired":0,"instances":[]} and more"#, Err("cannot be read")).await;
    let twice = r#"{"desired":2,"instances":[{"id":"i-1","state":"pending"},{"id":"i-1","state":"pending"}]}"#;
    check(twice, Err("i-1 twice")).await;
    let error = group("head -c 2000000 /dev/zero", "", "").describe().await.expect_err("too much");
    assert!(error.message.contains("longer than 1048576 bytes"), "{error}");
}

#[tokio::test]
async fn an_exit_status_says_whether_to_try_again() {
    let resize = GroupChange::Resize { from: 1, to: 2 };
    let check = async |script: &str, reading, writing, words: &str| {
        let read = group(script, "", "").describe().await.expect_err(script);
        let written = group("", script, "").change(&resize).await.expect_err(script);
        assert_eq!(((read.kind, read.reason), (written.kind, written.reason)), (reading, writing), "{script}");
        for error in [read, written] {
            assert!(error.message.contains(words), "{script}: {error}");
        }
    };
    let refused = (Permanent, ErrorReason::Refused);
    check("echo first >&2; echo 'quota exceeded' >&2; exit 1", refused, refused, "quota exceeded").await;
    let later = (Transient, ErrorReason::Throttled);
    check("echo 'slow down' >&2; exit 75", later, later, "slow down").await;
    check("kill -9 $$", (Transient, ErrorReason::Other), (Unknown, ErrorReason::Other), "signal").await;
    // It says much more than anybody reads.
    check("head -c 300000 /dev/zero >&2; exit 3", refused, refused, "exit status: 3").await;
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_killed_and_may_have_done_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let fifo = dir.path().join("fifo");
    // It opens a pipe that nobody writes to: no time is spent, and none is too short.
    let script = format!("mkfifo {0}; read line < {0}", fifo.display());
    let mut config = config(&script, &script, "");
    config.timeout = Some(duration::Duration::from_millis(200));
    let group = CommandGroup::new("workers", &config).expect("valid");
    let error = group.describe().await.expect_err("it hangs");
    assert_eq!((error.kind, error.reason), (Transient, ErrorReason::Timeout), "{error}");
    let error = group.change(&GroupChange::Resize { from: 1, to: 2 }).await.expect_err("it hangs");
    assert_eq!((error.kind, error.reason), (Unknown, ErrorReason::Timeout), "{error}");
}

#[tokio::test]
async fn values_are_put_in_as_they_are_and_never_as_options() {
    let dir = tempfile::tempdir().expect("a directory");
    let told = dir.path().join("told");
    let script = format!("printf '%s\\n' \"$@\" >> {}", told.display());
    let group = group("", &script, &script);
    group.change(&GroupChange::Resize { from: 1, to: 12 }).await.expect("it runs");
    let terminate =
        |instance: &str, node: &str| GroupChange::Terminate { instance: instance.into(), node: node.into(), from: 2 };
    group.change(&terminate("i-1", "node4")).await.expect("it runs");
    for bad in ["--all", "", "a b", "$(reboot)", "{node}", "a\nb"] {
        for change in [terminate(bad, "node4"), terminate("i-1", bad)] {
            let error = group.change(&change).await.expect_err(bad);
            assert_eq!((error.kind, error.reason), (Permanent, ErrorReason::Invalid), "{error}");
            assert!(error.message.contains("not started"), "{error}");
        }
    }
    assert_eq!(std::fs::read_to_string(told).expect("told"), "workers\n--to=12\ni-1\nnode4\n");
}

#[test]
fn a_wrong_command_is_refused_at_once() {
    let good = config("", "", "");
    let check = |change: &dyn Fn(&mut CommandGroupConfig), expect: &str| {
        let mut config = good.clone();
        change(&mut config);
        let error = CommandGroup::new("workers", &config).err().expect(expect);
        assert!(error.message.contains(expect), "{error}");
    };
    check(&|config| config.describe.clear(), "workers.command.describe: it is empty");
    check(&|config| config.resize = words(&["resize"]), "workers.command.resize: no argument has {desired}");
    check(&|config| config.terminate = words(&["end", "{instances}"]), "did you mean {instance}?");
    check(&|config| config.describe = words(&["show", "{desired}"]), "there is no {desired}; here there are {group}");
    check(&|config| config.describe = words(&["{group}"]), "in the program itself");
    check(&|config| config.min = 9, "min is 9, above max, which is 5");
    // Braces that name nothing stand for themselves.
    let json = words(&["post", r#"{"to":{desired},"x":{},"{":1}"#]);
    let filled = Argv::new("workers", "resize", &json, &["desired"], &["desired"]).expect("valid");
    assert_eq!(filled.filled(&[("desired", "3")]), Ok(words(&["post", r#"{"to":3,"x":{},"{":1}"#])));
}
