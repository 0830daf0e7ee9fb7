//! The programs that runs are pinned to: the one in force if it is the same, otherwise compiled anew from the journal.

use crate::app::Parts;
use crate::model::run::{ProgramHash, Run};
use crate::ports::JournalError;
use crate::runbook::program::Program;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

#[derive(Default)]
pub struct Programs(Mutex<HashMap<ProgramHash, Weak<Program>>>);

impl Programs {
    /// The program of a run. The inner error says why the pinned text cannot run in this build.
    pub async fn find(&self, parts: &Parts, run: &Run) -> Result<Result<Arc<Program>, String>, JournalError> {
        let catalog = parts.catalog.load();
        if let Some(program) = catalog.programs.get(&run.runbook).filter(|program| program.hash == run.program) {
            return Ok(Ok(program.clone()));
        }
        drop(catalog);
        if let Some(known) = self.known(&run.program) {
            return Ok(Ok(known));
        }
        let Some(sources) = parts.journal.program(&run.program).await? else {
            return Ok(Err(format!("the journal does not hold the text of {} that the run is pinned to", run.runbook)));
        };
        Ok(match Program::compile(Arc::new(sources)) {
            Ok((program, _)) => {
                let program = Arc::new(program);
                self.keep(&program);
                Ok(program)
            }
            Err(findings) => {
                let first = findings.first().map_or_else(String::new, ToString::to_string);
                Err(format!("the text of {} that the run is pinned to does not compile any more: {first}", run.runbook))
            }
        })
    }

    fn known(&self, hash: &ProgramHash) -> Option<Arc<Program>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(hash)?.upgrade()
    }

    fn keep(&self, program: &Arc<Program>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, program| program.strong_count() > 0);
        known.insert(program.hash.clone(), Arc::downgrade(program));
    }
}
