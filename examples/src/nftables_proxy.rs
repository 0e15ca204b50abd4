//! `nftables-proxy`: a node's Services in nf_tables.

use std::error::Error;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use backend_nftables::netlink::TableId;
use backend_nftables::{
    AFFINITY_SIZE, Audit, Kernel, Key, Line, Others, PinsLeft, Renderer, Value,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use svc_core::config::ProxyMode;
use svc_core::{IpFamily, NodeConfig, Planner, Reconciler};
use tracing::warn;

use crate::agent::{self, AuditStep, Audited, Backend, Notices, ProxyArgs};
use crate::backend;
pub use crate::backend::NFTABLES_TABLE as TABLE;
use crate::proxy::Family;

/// Serves the Services of a node through nf_tables
#[derive(Clone, Debug, clap::Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    proxy: ProxyArgs,
    /// Name of the table, in the families ip and ip6
    #[arg(long, value_name = "NAME", default_value = TABLE)]
    table: String,
}

/// nf_tables as a backend of a proxy.
#[derive(Debug)]
pub struct Nftables {
    table: String,
    audits: Vec<(IpFamily, Audit)>,
}

/// Services of a step of an audit: a millisecond's work, which a change may have to wait for.
const AUDIT_STEP: usize = 16;
/// Time that a round of audits takes: 0.6 % of a processor at a million endpoints.
const AUDIT_ROUND: Duration = Duration::from_secs(1200);
/// Longest wait for the next step: pins of Services that are gone may wait for it.
const AUDIT_WAIT: Duration = Duration::from_secs(60);
/// Wait between two steps that remove pins: a fifth of a processor at most.
const PINS_WAIT: Duration = Duration::from_millis(400);

/// The two families of a proxy over nf_tables.
pub type Families = Vec<Family<Renderer, Kernel>>;

/// Opens the tables of both families in the network namespace of the calling thread.
///
/// # Errors
/// When the kernel has no nf_tables.
pub fn open(table: &str) -> std::io::Result<Families> {
    let family = |family| {
        Ok(Family {
            reconciler: Reconciler::new(Renderer::new(table, family), family),
            kernel: Kernel::open(table, family)?,
        })
    };
    IpFamily::ALL.into_iter().map(family).collect()
}

/// Runs the command.
///
/// # Errors
/// What went wrong, for one line on standard error.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    agent::run(&args.proxy, Nftables::new(&args.table))
}

impl Nftables {
    /// The backend with tables of this name.
    pub fn new(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            audits: IpFamily::ALL.map(|of| (of, Audit::new(of))).into(),
        }
    }
}

impl Backend for Nftables {
    type Render = Renderer;
    type Kernel = Kernel;

    const MODE: ProxyMode = ProxyMode::Nftables;
    const PURE: backend::Backend = backend::Backend::Nftables;

    fn manages(&self) -> String {
        format!("table {}", self.table)
    }

    fn open(&self, _: &NodeConfig) -> Result<Families, Box<dyn Error>> {
        let families = open(&self.table);
        Ok(families.map_err(|error| format!("nf_tables: {error}"))?)
    }

    fn print(&self, _: IpFamily, key: &Key, value: &Value) -> String {
        Line(key, value).to_string()
    }

    fn clean_up(&self, family: &mut Family<Renderer, Kernel>) -> Result<(), Box<dyn Error>> {
        Ok(family.kernel.cleanup()?)
    }

    fn follow(
        &mut self,
        families: &mut Families,
        _: &NodeConfig,
    ) -> Result<Notices, Box<dyn Error>> {
        let tables = families.iter().map(|family| {
            let table = family.kernel.table().clone();
            (family.reconciler.family(), table)
        });
        let mut sentinel = Sentinel {
            tables: tables.collect(),
            others: Others::new(families.iter_mut().map(|family| &mut family.kernel))?,
        };
        Ok(Notices::Audited(Box::new(move || sentinel.wait())))
    }

    fn audit(
        &mut self,
        planner: &Planner,
        family: &mut Family<Renderer, Kernel>,
    ) -> Result<Option<AuditStep<Self>>, Box<dyn Error>> {
        let Family { reconciler, kernel } = family;
        let of = reconciler.family();
        let Some((_, audit)) = self.audits.iter_mut().find(|(family, _)| *family == of) else {
            return Ok(None);
        };
        if kernel.remove_pins()? == PinsLeft::Some {
            let (differed, wait) = (Vec::new(), PINS_WAIT);
            return Ok(Some(Audited { differed, wait }));
        }
        let round = audit.rounds();
        let differed = audit.step(planner, reconciler, kernel, AUDIT_STEP)?;
        if audit.rounds() != round && kernel.pins()?.is_some_and(|pins| pins >= AFFINITY_SIZE) {
            warn!(family = %of, pins = AFFINITY_SIZE, "no room for more clients with session affinity");
        }
        let steps = planner.indices().div_ceil(AUDIT_STEP).max(1);
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let wait = (AUDIT_ROUND / steps).min(AUDIT_WAIT);
        Ok(Some(Audited { differed, wait }))
    }

    fn title(&self, family: &Family<Renderer, Kernel>) -> String {
        let table = family.kernel.table();
        format!("table {} {}", table.family.name(), table.name)
    }
}

/// What others do to our tables.
struct Sentinel {
    others: Others,
    tables: Vec<(IpFamily, TableId)>,
}

impl Sentinel {
    /// Waits for a change by somebody else, and says by whom; no family if both are concerned.
    fn wait(&mut self) -> Result<Option<IpFamily>, Box<dyn Error>> {
        loop {
            if let Some(change) = self.others.next_change()? {
                warn!("{change}");
                let mut tables = self.tables.iter();
                return Ok(match &*change.tables {
                    [one] => tables
                        .find(|(_, table)| table == one)
                        .map(|(family, _)| *family),
                    _ => None,
                });
            }
            let mut ready = [PollFd::new(self.others.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
