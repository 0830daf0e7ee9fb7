//! Notices that something below a directory may have changed, whatever is swapped on the way to it. It never says what: look again.

use notify::event::{Event, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Watches directories, and every link on the way to them and in them. A directory that is there tells itself when it is moved or deleted; its parent, in
/// which a journal may be written thousands of times a second, is watched only while it is not there, or is a link. The file system
/// sends no word of much (a file renamed on the far side of a mount, a directory made again), so that whoever uses this also polls, and calls
/// [`Watch::renew`] then.
pub struct Watch {
    roots: Vec<PathBuf>,
    /// `None` where the system has no notifications: polling is all there is.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, (Identity, RecursiveMode)>,
    relevant: Arc<Mutex<Relevant>>,
}

/// Which events count. A directory that is watched only for one of its entries may be busy with others, such as a database.
#[derive(Default)]
struct Relevant {
    below: BTreeSet<PathBuf>,
    entries: BTreeSet<PathBuf>,
}

/// Tells a directory from another that has taken its name.
type Identity = (u64, u64);

impl Watch {
    /// Starts watching. `changed` is notified of each change; many changes at once may be one notice.
    pub fn start(roots: Vec<PathBuf>, changed: Arc<Notify>) -> Watch {
        let relevant = Arc::new(Mutex::new(Relevant::default()));
        let filter = relevant.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error, such as a queue that ran over, may have swallowed anything.
            if event.map_or(true, |event| filter.lock().unwrap_or_else(|poison| poison.into_inner()).counts(&event)) {
                changed.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(
                |error| tracing::warn!(%error, "no notices of changed files here: rules and runbooks are polled"),
            )
            .ok();
        let mut watch = Watch { roots, watcher, watched: BTreeMap::new(), relevant };
        watch.renew();
        watch
    }

    /// Watches what has come, and forgets what has gone. True when anything had to be done: then something may have changed unseen.
    pub fn renew(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let mut wanted = BTreeMap::new();
        let mut relevant = Relevant::default();
        for root in &self.roots {
            trace(root, &mut wanted, &mut relevant);
        }
        *self.relevant.lock().unwrap_or_else(|poison| poison.into_inner()) = relevant;
        let wanted: BTreeMap<_, _> =
            wanted.into_iter().filter_map(|(path, mode)| Some((path.clone(), (identity(&path)?, mode)))).collect();
        if wanted == self.watched {
            return false;
        }
        for (path, (_, mode)) in &self.watched {
            if wanted.get(path).map(|(_, mode)| mode) != Some(mode) || wanted[path] != self.watched[path] {
                // Gone with its directory, most often.
                let _ = watcher.unwatch(path);
            }
        }
        self.watched.retain(|path, is| wanted.get(path) == Some(is));
        for (path, is) in wanted {
            if self.watched.contains_key(&path) {
                continue;
            }
            match watcher.watch(&path, is.1) {
                Ok(()) => {
                    self.watched.insert(path, is);
                }
                // Tried again with the next poll.
                Err(error) => tracing::debug!(path = %path.display(), %error, "cannot be watched"),
            }
        }
        true
    }
}

impl Relevant {
    fn counts(&self, event: &Event) -> bool {
        // Reading what changed is an access too: to answer it would be to run in a circle.
        if matches!(event.kind, EventKind::Access(access) if !writes(access)) {
            return false;
        }
        event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(|path| self.covers(path))
    }

    fn covers(&self, path: &Path) -> bool {
        self.entries.contains(path)
            || self.below.iter().any(|root| {
                path.strip_prefix(root)
                    .is_ok_and(|rest| !rest.components().any(|part| part == Component::Normal(".git".as_ref())))
            })
    }
}

/// The end of writing comes as an access.
fn writes(access: notify::event::AccessKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    access == AccessKind::Close(AccessMode::Write)
}

/// What must be watched to hear of every change of `root`: each entry on the way that is a link or is not there (in its parent), the directory that it
/// leads to, and where links in it lead.
fn trace(root: &Path, wanted: &mut BTreeMap<PathBuf, RecursiveMode>, relevant: &mut Relevant) {
    let Ok(root) = std::path::absolute(root) else { return };
    let real = follow(&root, wanted, relevant);
    if !real.is_dir() {
        return;
    }
    relevant.below.insert(real.clone());
    wanted.insert(real.clone(), RecursiveMode::Recursive);
    for directory in [real.clone(), real.join("lib")] {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink())) {
            let end = follow(&entry.path(), wanted, relevant);
            if end.is_dir() {
                relevant.below.insert(end);
            }
        }
    }
}

/// Follows a path to where it really leads, or to where it breaks off, and watches each link on the way for being replaced, the file at the
/// end too, and what is not there for coming.
fn follow(path: &Path, wanted: &mut BTreeMap<PathBuf, RecursiveMode>, relevant: &mut Relevant) -> PathBuf {
    /// Linux' own limit.
    const MOST_LINKS: usize = 40;
    let mut links = 0;
    let mut done = PathBuf::new();
    let mut left: Vec<PathBuf> = path.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect();
    while let Some(part) = left.pop() {
        let next = match part.as_os_str().to_str() {
            Some("..") => done.parent().unwrap_or(&done).to_path_buf(),
            Some(".") => done.clone(),
            _ => done.join(&part),
        };
        let target = std::fs::read_link(&next).ok().filter(|_| links < MOST_LINKS);
        // A directory tells of itself; a file that is saved by a rename does not.
        if (target.is_some() || !next.exists() || left.is_empty() && !next.is_dir())
            && let Some(parent) = next.parent().filter(|parent| parent.is_dir())
        {
            relevant.entries.insert(next.clone());
            wanted.entry(parent.to_path_buf()).or_insert(RecursiveMode::NonRecursive);
        }
        let Some(target) = target else {
            done = next;
            continue;
        };
        links += 1;
        left.extend(target.components().rev().map(|part| PathBuf::from(part.as_os_str())));
        // A relative target starts from the directory of its link; an absolute one replaces it by its root component.
    }
    done
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<Identity> {
    path.exists().then_some((0, 0))
}
