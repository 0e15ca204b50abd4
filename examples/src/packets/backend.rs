//! What is put to the test.

use std::error::Error;
use std::fmt;
use std::io;

use svc_core::{IpFamily, Kernel, Planner, Reconciler, Render};

use crate::proxy::{Family, update};

/// Why a backend could not be used.
pub type BackendError = Box<dyn Error + Send + Sync>;

/// A backend in the network namespace of a node.
///
/// All calls are made by threads in that namespace, not always the same one.
pub trait Backend: Send {
    /// Makes the kernel show the plans of a planner.
    ///
    /// # Errors
    /// When it does not show them.
    fn sync(&mut self, planner: &mut Planner) -> Result<(), BackendError>;

    /// Removes everything from the kernel and forgets it: the next planner may be another one.
    ///
    /// # Errors
    /// When something is left.
    fn remove(&mut self) -> Result<(), BackendError>;
}

impl Backend for Box<dyn Backend> {
    fn sync(&mut self, planner: &mut Planner) -> Result<(), BackendError> {
        (**self).sync(planner)
    }

    fn remove(&mut self) -> Result<(), BackendError> {
        (**self).remove()
    }
}

/// A backend of reconcilers, one for each family.
pub struct Reconciled<R: Render, K> {
    /// The families.
    pub families: Vec<Family<R, K>>,
    fresh: Fresh<R>,
    clean_up: CleanUp<K>,
}

type Fresh<R> = Box<dyn Fn(IpFamily) -> Reconciler<R> + Send>;
type CleanUp<K> = Box<dyn Fn(&mut K) -> Result<(), BackendError> + Send>;

impl<R: Render, K> Reconciled<R, K> {
    /// A backend of the kernels of both families, of reconcilers that start from nothing, and of
    /// what empties a kernel.
    ///
    /// # Errors
    /// When a kernel cannot be opened.
    pub fn open<E>(
        kernel: impl Fn(IpFamily) -> Result<K, E>,
        fresh: impl Fn(IpFamily) -> Reconciler<R> + Send + 'static,
        clean_up: impl Fn(&mut K) -> Result<(), BackendError> + Send + 'static,
    ) -> Result<Self, E> {
        let families = IpFamily::ALL.into_iter().map(|family| {
            Ok(Family {
                reconciler: fresh(family),
                kernel: kernel(family)?,
            })
        });
        Ok(Self {
            families: families.collect::<Result<_, E>>()?,
            fresh: Box::new(fresh),
            clean_up: Box::new(clean_up),
        })
    }
}

impl<R, K> Backend for Reconciled<R, K>
where
    R: Render + Send,
    R::Key: Send + Sync,
    R::Value: Send + Sync,
    K: Kernel<R> + Send,
    K::Error: 'static,
{
    fn sync(&mut self, planner: &mut Planner) -> Result<(), BackendError> {
        update(planner, &mut self.families).map_err(|error| error.to_string())?;
        for family in &self.families {
            if let Some((name, reason)) = family.reconciler.quarantine().iter().next() {
                return Err(format!("{name}: the kernel refuses its objects: {reason}").into());
            }
        }
        Ok(())
    }

    fn remove(&mut self) -> Result<(), BackendError> {
        for (family, id) in self.families.iter_mut().zip(IpFamily::ALL) {
            (self.clean_up)(&mut family.kernel)?;
            family.reconciler = (self.fresh)(id);
            let left = family.kernel.read().map_err(|error| error.to_string())?;
            if !left.is_empty() {
                return Err(format!("{} objects are left after the clean-up", left.len()).into());
            }
        }
        Ok(())
    }
}

impl<R: Render, K> fmt::Debug for Reconciled<R, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let families = self.families.len();
        write!(f, "Reconciled {{ {families} families }}")
    }
}

/// The nf_tables backend in the network namespace of the calling thread.
///
/// # Errors
/// When the kernel has no nf_tables.
pub fn nftables() -> io::Result<Reconciled<backend_nftables::Renderer, backend_nftables::Kernel>> {
    use backend_nftables::{Kernel, Renderer};
    let table = crate::backend::NFTABLES_TABLE;
    Reconciled::open(
        move |family| Kernel::open(table, family),
        move |family| Reconciler::new(Renderer::new(table, family), family),
        |kernel: &mut Kernel| Ok(kernel.cleanup()?),
    )
}
