//! Rules and runbooks change under a running engine: real files, real notifications.

use arc_swap::ArcSwap;
use runbookd::app::reloader::{Outcome, Pace, Reloader, spawn_at};
use runbookd::runbook::catalog::{Catalog, Offers};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Only a lost notice takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

struct Site {
    home: TempDir,
    catalog: Arc<ArcSwap<Catalog>>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    reloader: Reloader,
}

fn rule(name: &str) -> String {
    format!("rules:\n  - name: {name}\n    match: ['alertname = \"{name}\"']\n")
}

fn runbook(doc: &str) -> String {
    format!("//! {doc}\nfn on_firing(alert, params) {{ log(\"{doc}\"); }}\n")
}

/// Replaces a file as editors do.
fn save(path: &Path, text: &str) {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, text).expect("a temporary file");
    fs::rename(temporary, path).expect("a rename");
}

impl Site {
    /// Starts with what `lay` writes below the home directory; `rules` and `runbooks` exist before it does, unless it removes them.
    async fn start(lay: impl FnOnce(&Path)) -> Site {
        // Polling is out of the picture: what these tests see, notices have brought.
        Self::start_at(Pace { debounce: Duration::from_millis(50), poll: Duration::from_secs(3600) }, lay).await
    }

    async fn start_at(pace: Pace, lay: impl FnOnce(&Path)) -> Site {
        let home = TempDir::new().expect("a temporary directory");
        fs::create_dir(home.path().join("runbooks")).expect("runbooks");
        lay(home.path());
        let (rules, runbooks) = (home.path().join("rules"), home.path().join("runbooks"));
        let loaded = Catalog::load(&rules, &runbooks, &Offers::default(), None).expect("a valid start");
        let catalog = Arc::new(ArcSwap::from_pointee(loaded));
        let (told, outcomes) = mpsc::unbounded_channel();
        let reloader =
            spawn_at(pace, rules, runbooks, (Offers::default(), Default::default()), catalog.clone(), move |outcome| {
                let _ = told.send(outcome);
            });
        let mut site = Site { home, catalog, outcomes, reloader };
        assert_eq!(site.next().await, Outcome::Unchanged, "the first look finds what was loaded");
        site
    }

    fn path(&self, below: &str) -> PathBuf {
        self.home.path().join(below)
    }

    async fn next(&mut self) -> Outcome {
        let waited = tokio::time::timeout(PATIENCE, self.outcomes.recv()).await;
        waited.expect("a change is noticed").expect("the reloader runs")
    }

    /// The next outcome that says something new.
    async fn news(&mut self) -> Outcome {
        loop {
            match self.next().await {
                Outcome::Unchanged => continue,
                outcome => return outcome,
            }
        }
    }

    /// Waits until exactly these rules are in force.
    async fn in_force(&mut self, names: &[&str]) {
        while self.rules() != names {
            let outcome = self.next().await;
            assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        }
    }

    fn rules(&self) -> Vec<String> {
        self.catalog.load().rules.iter().map(|rule| rule.name.clone()).collect()
    }
}

fn flat(home: &Path) {
    fs::create_dir(home.join("rules")).expect("rules");
    fs::write(home.join("rules/a.yaml"), rule("one")).expect("a rule");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_leaves_the_running_set_in_force_and_is_told_once() {
    let mut site = Site::start(flat).await;
    let file = site.path("rules/a.yaml");
    save(&file, "rules:\n  - name: two\n    macth: []\n");
    let Outcome::Refused(findings) = site.news().await else { panic!("a bad file was taken") };
    assert!(findings.iter().any(|finding| finding.code == "rule_unknown_key" && finding.line == 3), "{findings:?}");
    assert_eq!(site.rules(), ["one"]);

    // The same content again, then another that is good: nothing is told in between.
    save(&file, "rules:\n  - name: two\n    macth: []\n");
    save(&site.path("rules/b.yaml"), &rule("three"));
    let Outcome::Refused(again) = site.news().await else { panic!("still one bad file") };
    assert_eq!(again, findings, "the set is another, the finding the same");
    save(&file, &rule("two"));
    assert_eq!(site.next().await, Outcome::Swapped { rules: 2, programs: 0 });
    assert_eq!(site.rules(), ["two", "three"]);
    site.reloader.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_returns_to_the_running_content_is_no_swap() {
    let mut site = Site::start(flat).await;
    let before = site.catalog.load_full();
    save(&site.path("rules/a.yaml"), "rules: {");
    assert!(matches!(site.next().await, Outcome::Refused(_)));
    save(&site.path("rules/a.yaml"), &rule("one"));
    assert_eq!(site.next().await, Outcome::Unchanged);
    assert!(Arc::ptr_eq(&before, &site.catalog.load_full()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_written_renamed_added_and_deleted() {
    let mut site = Site::start(flat).await;
    fs::write(site.path("rules/a.yaml"), rule("in-place")).expect("a write");
    site.in_force(&["in-place"]).await;
    save(&site.path("rules/a.yaml"), &rule("renamed"));
    site.in_force(&["renamed"]).await;
    fs::write(site.path("rules/b.yml"), rule("added")).expect("a write");
    site.in_force(&["renamed", "added"]).await;
    fs::remove_file(site.path("rules/a.yaml")).expect("a deletion");
    site.in_force(&["added"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hidden_files_and_repositories_are_no_rules() {
    let mut site = Site::start(flat).await;
    for name in [".b.yaml", "b.yaml~", ".a.yaml.swp", "#a.yaml#"] {
        fs::write(site.path("rules").join(name), "no rule").expect("a write");
    }
    fs::create_dir(site.path("rules/.git")).expect("a directory");
    fs::write(site.path("rules/.git/index.yaml"), "no rule").expect("a write");
    // The next change that counts comes through, and nothing of the rest was taken for a rule.
    save(&site.path("rules/z.yaml"), &rule("last"));
    site.in_force(&["one", "last"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubernetes_swaps_a_link_and_never_touches_the_files() {
    let mut site = Site::start(|home| {
        let rules = home.join("rules");
        fs::create_dir_all(rules.join("..2026_1")).expect("the first version");
        fs::write(rules.join("..2026_1/a.yaml"), rule("first")).expect("a rule");
        symlink("..2026_1", rules.join("..data")).expect("the link of the mount");
        symlink("..data/a.yaml", rules.join("a.yaml")).expect("the link of the file");
    })
    .await;
    for (version, name) in [("..2026_2", "second"), ("..2026_3", "third")] {
        let rules = site.path("rules");
        fs::create_dir(rules.join(version)).expect("a new version");
        fs::write(rules.join(version).join("a.yaml"), rule(name)).expect("a rule");
        symlink(version, rules.join("..data_tmp")).expect("a link");
        fs::rename(rules.join("..data_tmp"), rules.join("..data")).expect("the swap");
        site.in_force(&[name]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_path_itself_may_be_a_link_that_is_swapped() {
    let mut site = Site::start(|home| {
        for release in ["release-1", "release-2", "release-3"] {
            fs::create_dir_all(home.join(release).join("rules")).expect("a release");
            fs::write(home.join(release).join("rules/a.yaml"), rule(release)).expect("a rule");
        }
        symlink("release-1", home.join("current")).expect("a link");
        symlink("current/rules", home.join("rules")).expect("a link over a link");
    })
    .await;
    for release in ["release-2", "release-3"] {
        symlink(release, site.path("next")).expect("a link");
        fs::rename(site.path("next"), site.path("current")).expect("the swap");
        site.in_force(&[release]).await;
    }
    // What it leads to now is what is watched now.
    save(&site.path("release-3/rules/a.yaml"), &rule("edited"));
    site.in_force(&["edited"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_removed_and_made_again_is_watched_again() {
    let mut site = Site::start(flat).await;
    fs::remove_dir_all(site.path("rules")).expect("a removal");
    let Outcome::Refused(findings) = site.news().await else { panic!("no rules were taken for an empty set") };
    assert_eq!(findings[0].code, "directory_missing");
    assert_eq!(site.rules(), ["one"]);
    fs::create_dir(site.path("rules")).expect("a directory");
    fs::write(site.path("rules/a.yaml"), rule("again")).expect("a rule");
    while site.rules() != ["again"] {
        site.next().await;
    }
    save(&site.path("rules/a.yaml"), &rule("edited"));
    site.in_force(&["edited"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_another_takes_the_place_of_is_watched_from_then_on() {
    let mut site = Site::start(flat).await;
    fs::create_dir(site.path("next")).expect("a directory");
    fs::write(site.path("next/a.yaml"), rule("two")).expect("a rule");
    fs::rename(site.path("rules"), site.path("before")).expect("a rename");
    fs::rename(site.path("next"), site.path("rules")).expect("a rename");
    // Whoever looks in between is told that there are none.
    while site.rules() != ["two"] {
        site.next().await;
    }
    save(&site.path("rules/a.yaml"), &rule("edited"));
    site.in_force(&["edited"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_notice_comes_polling_finds_it() {
    // A directory without a notice: a hard link is written through a name that nobody watches.
    let pace = Pace { debounce: Duration::from_millis(20), poll: Duration::from_millis(100) };
    let mut site = Site::start_at(pace, |home| {
        flat(home);
        fs::create_dir(home.join("elsewhere")).expect("a directory");
        fs::hard_link(home.join("rules/a.yaml"), home.join("elsewhere/a.yaml")).expect("a hard link");
    })
    .await;
    fs::write(site.path("elsewhere/a.yaml"), rule("unseen")).expect("a write");
    site.in_force(&["unseen"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_library_is_seen_and_unchanged_runbooks_are_kept() {
    let mut site = Site::start(|home| {
        flat(home);
        fs::write(home.join("runbooks/kept.rhai"), runbook("kept")).expect("a runbook");
        fs::write(home.join("runbooks/user.rhai"), runbook("user")).expect("a runbook");
    })
    .await;
    let kept = site.catalog.load().programs["kept"].clone();
    fs::create_dir(site.path("runbooks/lib")).expect("a directory");
    fs::write(site.path("runbooks/lib/words.rhai"), "fn greet() { \"hello\" }\n").expect("a module");
    let user = "import \"lib/words\" as words;\nfn on_firing(alert, params) { log(words::greet()); }\n";
    save(&site.path("runbooks/user.rhai"), user);
    while site.catalog.load().programs["user"].sources.modules.is_empty() {
        let outcome = site.next().await;
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    let user = site.catalog.load().programs["user"].clone();
    // A change of the library alone changes who uses it, and nobody else.
    fs::write(site.path("runbooks/lib/words.rhai"), "fn greet() { \"good day\" }\n").expect("a write");
    while site.catalog.load().programs["user"].hash == user.hash {
        let outcome = site.next().await;
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    assert!(Arc::ptr_eq(&kept, &site.catalog.load().programs["kept"]));
}
