//! The same done with many things, on all cores.

use runbookd::runbook::sandbox;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Does `work` with each of `all` and gives what came of it, in the order of `all` whoever was done first. The threads' stacks are deep enough for
/// every runbook: no evaluation needs a thread of its own.
pub fn on_all_cores<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < all.len());
    let mine = || std::iter::from_fn(take).map(|at| (at, work(&all[at]))).collect::<Vec<_>>();
    let mut done = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| sandbox::on_deep_stack(mine))).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined.flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect::<Vec<_>>()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, came)| came).collect()
}
