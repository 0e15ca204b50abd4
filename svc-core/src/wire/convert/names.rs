use alloc::sync::Arc;

use hashbrown::HashSet;

use crate::name::Name;

/// Names that are allocated once however many objects hold them.
///
/// A hash table because every endpoint looks its node up here; it is never iterated for output.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Name>);

impl Names {
    pub(super) fn share(&mut self, text: &str) -> Name {
        if let Some(name) = self.0.get(text) {
            return name.clone();
        }
        let name = Name::from(text);
        self.0.insert(name.clone());
        name
    }

    pub(super) fn forget_unused(&mut self) {
        self.0.retain(|name| Arc::strong_count(name) > 1);
    }
}
