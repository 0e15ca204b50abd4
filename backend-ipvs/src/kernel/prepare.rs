//! What is done before anything is shown.

use svc_core::Protocol;

use super::Kernel;
use crate::companion;
use crate::error::{Errno, Error};
use crate::key::{Server, ServerId};
use crate::scheduler::Scheduler;
use crate::setting::Setting;
use crate::system::{Request, System, TableEdit};

impl<S: System> Kernel<S> {
    /// Whether virtual servers with a scheduler can be made: makes one that no packet comes to, and
    /// removes it. For whoever removes virtual servers of others before ours are made.
    ///
    /// # Errors
    /// [`Error::Refused`]; a module is missing, most likely, which the message names.
    pub fn try_scheduler(&mut self, scheduler: Scheduler) -> Result<(), Error> {
        let id = ServerId::Marked(Protocol::Tcp, self.marks.spare());
        let operation = || format!("use scheduler {scheduler} of module {}", scheduler.module());
        for request in [
            Request::NewServer(id, Server::new(scheduler)),
            Request::DeleteServer(id),
        ] {
            for answer in self.change(vec![request])? {
                match answer {
                    // One was left over.
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(Error::refused(operation(), errno)),
                }
            }
        }
        Ok(())
    }

    /// Gives settings values, in the whole network namespace. The companion table remembers what
    /// they were, for [`Kernel::cleanup`]; ask only one family for it. A setting that the kernel
    /// does not have is passed over.
    ///
    /// # Errors
    /// [`Error::Setting`], or that the companion table cannot be changed.
    pub fn set(&mut self, wanted: &[(Setting, u32)]) -> Result<(), Error> {
        let saved = self.system.saved()?;
        for (setting, value) in wanted {
            let Some(held) = self.system.setting(*setting)? else {
                continue;
            };
            if held == *value {
                continue;
            }
            if !saved.contains_key(&setting.number()) {
                self.save(*setting, held)?;
            }
            self.system.set(*setting, *value)?;
        }
        Ok(())
    }

    fn save(&mut self, setting: Setting, held: u32) -> Result<(), Error> {
        let edits = companion::saving(&self.table, self.family, setting.number(), held);
        let edits: Vec<TableEdit<'_>> = edits.iter().map(|edit| (0, edit)).collect();
        self.system.change_table(&edits)
    }
}
