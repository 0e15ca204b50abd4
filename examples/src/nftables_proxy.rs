//! `nftables-proxy`: a node's Services in nf_tables.

use std::error::Error;
use std::os::fd::AsFd;
use std::process::ExitCode;

use backend_nftables::error::EventError;
use backend_nftables::netlink::{Events, TableId};
use backend_nftables::{Kernel, Key, Line, Renderer, Value};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use svc_core::config::ProxyMode;
use svc_core::{IpFamily, NodeConfig, Reconciler};

use crate::agent::{self, Backend, Notices, ProxyArgs};
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
}

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
        }
    }
}

impl Backend for Nftables {
    type Render = Renderer;
    type Kernel = Kernel;

    const MODE: ProxyMode = ProxyMode::Nftables;
    const PURE: backend::Backend = backend::Backend::Nftables;

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

    fn follow(
        &mut self,
        families: &mut Families,
        _: &NodeConfig,
    ) -> Result<Notices, Box<dyn Error>> {
        // One socket hears of both families.
        let first = families.first_mut().ok_or("no address family")?;
        let mut others = Others {
            events: first.kernel.socket().events()?,
            own: Vec::new(),
            tables: Vec::new(),
        };
        for family in families {
            others.own.push(family.kernel.socket().port());
            let table = family.kernel.table().clone();
            others.tables.push((family.reconciler.family(), table));
        }
        Ok(Notices::Told(Box::new(move || others.wait())))
    }

    fn title(&self, family: &Family<Renderer, Kernel>) -> String {
        let table = family.kernel.table();
        format!("table {} {}", table.family.name(), table.name)
    }
}

/// What others do to our tables.
struct Others {
    events: Events,
    /// Ports of our own sockets.
    own: Vec<u32>,
    tables: Vec<(IpFamily, TableId)>,
}

impl Others {
    /// Waits for a change by somebody else.
    fn wait(&mut self) -> Result<Option<IpFamily>, Box<dyn Error>> {
        loop {
            match self.events.next_event() {
                Ok(Some(event)) => {
                    // Port 0 is the kernel itself, which ends the pins of clients.
                    let foreign = event.port != 0 && !self.own.contains(&event.port);
                    let mut tables = self.tables.iter();
                    let ours = tables.find(|(_, table)| foreign && event.concerns(table));
                    if let Some((family, _)) = ours {
                        return Ok(Some(*family));
                    }
                }
                Ok(None) => {
                    let mut ready = [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)];
                    match poll(&mut ready, PollTimeout::NONE) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                Err(EventError::Lost) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
