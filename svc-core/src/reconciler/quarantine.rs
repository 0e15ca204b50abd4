//! Service ports that are set aside as the kernel refused them.

use alloc::collections::BTreeMap;
use alloc::string::String;

use super::Reconciler;
use crate::name::ServicePortName;
use crate::ruleset::Render;

impl<R: Render> Reconciler<R> {
    /// Service ports that the kernel refused, with the reason.
    pub fn quarantine(&self) -> &BTreeMap<ServicePortName, String> {
        &self.quarantine
    }

    /// Puts the service ports that were set aside back in, as what was in their way may be gone: the
    /// next [`Reconciler::poll`] asks for a reading, and what differs is committed. Those that the
    /// kernel refuses again are set aside again.
    pub fn release(&mut self) {
        if !self.quarantine.is_empty() {
            self.quarantine.clear();
            self.verify = true;
        }
    }
}
