//! `nftables-proxy`: a node's Services in nf_tables.

use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::time::Duration;

use backend_nftables::{Audit, Kernel, Key, Line, Others, Renderer, Value};
use svc_core::config::ProxyMode;
use svc_core::{IpFamily, NodeConfig, Planner, Reconciler};

pub use crate::backend::NFTABLES_TABLE as TABLE;
use crate::node_proxy::{self, Backend, ProxyArgs};
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
    others: Option<Others>,
    audits: Vec<Audit>,
    /// Objects that an audit found wrong.
    mended: usize,
}

/// Steps of a round of audits: twenty minutes, 0.6 % of a processor at a million endpoints.
const AUDIT_STEPS: usize = 12_000;

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
    node_proxy::run(&args.proxy, Nftables::new(&args.table))
}

impl Nftables {
    /// The backend with tables of this name.
    pub fn new(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            others: None,
            audits: IpFamily::ALL.map(Audit::new).into(),
            mended: 0,
        }
    }
}

impl Backend for Nftables {
    type Render = Renderer;
    type Kernel = Kernel;

    const MODE: ProxyMode = ProxyMode::Nftables;

    fn open(&self, _: &NodeConfig) -> Result<Families, Box<dyn Error>> {
        let families = open(&self.table);
        Ok(families.map_err(|error| format!("nf_tables: {error}"))?)
    }

    fn print(&self, key: &Key, value: &Value) -> String {
        Line(key, value).to_string()
    }

    fn clean_up(&self, family: &mut Family<Renderer, Kernel>) -> Result<(), Box<dyn Error>> {
        Ok(family.kernel.cleanup()?)
    }

    fn follow(&mut self, families: &mut Families) -> Result<(), Box<dyn Error>> {
        self.others = Some(Others::new(families.iter_mut().map(|f| &mut f.kernel))?);
        Ok(())
    }

    fn news(&self) -> Option<BorrowedFd<'_>> {
        self.others.as_ref().map(|others| others.as_fd())
    }

    fn others_changed(&mut self, _: &mut Families) -> Result<bool, Box<dyn Error>> {
        let Some(others) = &mut self.others else {
            return Ok(false);
        };
        let mut changes = Vec::new();
        while let Some(change) = others.next_change()? {
            if !changes.contains(&change) {
                eprintln!("warning: {change}");
                changes.push(change);
            }
        }
        Ok(!changes.is_empty())
    }

    const AUDIT_PERIOD: Option<Duration> = Some(Duration::from_millis(100));

    fn audit(&mut self, planner: &Planner, families: &mut Families) -> Result<(), Box<dyn Error>> {
        let services = planner.indices().div_ceil(AUDIT_STEPS);
        for (audit, family) in self.audits.iter_mut().zip(families) {
            let Family { reconciler, kernel } = family;
            let differed = audit.step(planner, reconciler, kernel, services)?;
            if let Some(first) = differed.first() {
                self.mended += differed.len();
                let table = kernel.table();
                eprintln!(
                    "warning: {} objects of table {} {} were wrong, the first {first:?}; {} since the start",
                    differed.len(),
                    table.family.name(),
                    table.name,
                    self.mended
                );
            }
        }
        Ok(())
    }

    fn title(&self, family: &Family<Renderer, Kernel>) -> String {
        let table = family.kernel.table();
        format!("table {} {}", table.family.name(), table.name)
    }
}
