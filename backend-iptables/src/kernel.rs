//! The only part that changes a kernel.

mod bisect;
mod sets;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use svc_core::{CommitFailure, IpFamily, Ruleset, ServicePortName, Transaction};

use crate::config::{Config, InvalidPackets, Marks};
use crate::error::Error;
use crate::host::{Detected, Tools, Variant, destroy, detect, features};
use crate::key::{Key, Table, Value};
use crate::name::{self, ChainName};
use crate::read::{Saved, guards_loopback};
use crate::render::Renderer;
use crate::skeleton::JUMPS;
use crate::transaction::{Blocks, Held, Input, Writes};

/// How to open iptables.
#[derive(Clone, Debug)]
pub struct Options {
    /// The family.
    pub family: IpFamily,
    /// The variant to use, or else that which the host uses.
    pub variant: Option<Variant>,
    /// Bits of the mark.
    pub marks: Marks,
    /// How long to wait for the lock of iptables, in whole seconds.
    pub lock_wait: Duration,
    /// The lock file, if it is not that of the tools.
    pub lock_file: Option<PathBuf>,
}

impl Options {
    /// The usual options for a family.
    pub fn new(family: IpFamily) -> Self {
        Self {
            family,
            variant: None,
            marks: Marks::default(),
            lock_wait: Duration::from_secs(5),
            lock_file: None,
        }
    }
}

/// iptables of one family in the network namespace of the thread that uses it.
#[derive(Debug)]
pub struct Kernel {
    tools: Tools,
    config: Config,
    detected: Detected,
    held: Held,
}

impl Kernel {
    /// Finds out which variant the host uses and what it has.
    ///
    /// # Errors
    /// iptables is not installed, too old, or lacks what nothing can stand in for; or somebody
    /// else holds its lock.
    pub fn open(options: Options) -> Result<Self, Error> {
        let detected = detect(options.family, options.variant)?;
        let tools = detected.tools(options.family, options.lock_wait, options.lock_file);
        let mut config = Config::new(options.family);
        config.marks = options.marks;
        config.invalid = invalid_packets();
        config.features = features(&tools, &config)?;
        Ok(Self {
            tools,
            config,
            detected,
            held: Held::default(),
        })
    }

    /// What a renderer for this kernel needs.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The variant in use, and why.
    pub fn detected(&self) -> &Detected {
        &self.detected
    }

    /// Reads everything that is ours.
    ///
    /// With iptables-nft this takes a second and a half of CPU at 10,000 Services: do it at
    /// start, after a failure and on a slow timer.
    ///
    /// # Errors
    /// When the tools fail.
    pub fn read(&mut self) -> Result<Ruleset<Key, Value>, Error> {
        let saved = self.saved()?;
        let admitted = std::mem::take(&mut self.held.health_checks);
        let (mut ruleset, held) = saved.ruleset(&self.config, admitted);
        self.held = held;
        for set in sets::list(self.config.family)? {
            ruleset.insert(Key::Set(set), Value::Present);
        }
        if guards_loopback(&ruleset) && route_localnet()? {
            ruleset.insert(Key::RouteLocalnet, Value::Present);
        }
        Ok(ruleset)
    }

    fn saved(&self) -> Result<Saved, Error> {
        let mut saved = Saved::default();
        for table in Table::ALL {
            saved.add(&self.tools.save(table.name())?);
        }
        Ok(saved)
    }

    /// Applies a transaction.
    ///
    /// Sets are made first, then table filter is written, then nat; each table takes effect at
    /// once.
    ///
    /// # Errors
    /// [`Error::Refused`] names the service ports whose rules the kernel does not take; leave
    /// them out and commit again. After any error but [`Error::Locked`] and [`Error::LockFile`] the
    /// kernel has to be read again: part of the transaction may have been applied.
    pub fn commit(&mut self, transaction: &Transaction<Key, Value>) -> Result<(), Error> {
        let Err(refusal) = self.apply(transaction) else {
            return Ok(());
        };
        let Refusal { error, blamed } = refusal;
        let Error::Failed { message, .. } = &error else {
            return Err(error);
        };
        if blamed.len() == 1 {
            let name = |name| (name, message.clone());
            return Err(Error::Refused(blamed.into_iter().map(name).collect()));
        }
        let mut apply =
            |part: &Transaction<Key, Value>| self.apply(part).map_err(|refusal| refusal.error);
        Err(bisect::refused(transaction, error, &blamed, &mut apply).after_a_part())
    }

    fn apply(&mut self, transaction: &Transaction<Key, Value>) -> Result<(), Refusal> {
        let writes = self.held.change(&self.config, transaction);
        let blocks = match self.tools.variant {
            Variant::Legacy => Blocks::One,
            Variant::Nft => Blocks::Several,
        };
        let undo = writes.undo.clone();
        let (new_sets, old_sets) = (writes.new_sets.clone(), writes.old_sets.clone());
        let route_localnet = writes.route_localnet;
        let input = writes.input(&self.held, blocks);
        let written =
            sets::create(self.config.family, &new_sets).and_then(|()| match input.is_empty() {
                true => Ok(()),
                false => self.tools.restore(input.text()),
            });
        if let Err(error) = written {
            self.held.restore(&undo);
            // The tools take the lock for each block by itself.
            let error = match input.blocks() {
                0 | 1 => error,
                _ => error.after_a_part(),
            };
            return Err(Refusal::new(error, &input, transaction));
        }
        self.held.any = true;
        self.finish(old_sets, route_localnet)
            .map_err(|source| Refusal {
                error: Error::Unfinished(Box::new(source)),
                blamed: BTreeSet::new(),
            })
    }

    /// What comes after the rules, which are there: what they no longer use can go, and what guards
    /// loopback is there.
    fn finish(&self, old_sets: BTreeSet<ChainName>, route_localnet: bool) -> Result<(), Error> {
        match destroy(old_sets) {
            // A set that is still in use harms nobody: the next reading finds it.
            Ok(()) | Err(Error::Failed { .. }) => {}
            Err(error) => return Err(error),
        }
        match route_localnet {
            true => self.set_route_localnet(),
            false => Ok(()),
        }
    }

    /// Sets `route_localnet`, and leaves a note that it was not set before.
    fn set_route_localnet(&self) -> Result<(), Error> {
        if route_localnet()? {
            return Ok(());
        }
        let note = format!("*filter\n:{} - [0:0]\nCOMMIT\n", name::LOCALNET);
        self.tools.restore(&note)?;
        write_route_localnet("1\n")
    }

    /// Lets TCP connections to these ports of the host in, whatever the policy of INPUT (B-207):
    /// those of the plan's health checks. Later commits keep them.
    ///
    /// # Errors
    /// When the tools fail; the next commit or call tries again.
    pub fn admit_health_checks(&mut self, ports: BTreeSet<u16>) -> Result<(), Error> {
        if self.held.any && self.held.health_checks != ports {
            let input = Writes::health_checks(&ports).input(&self.held, Blocks::One);
            self.tools.restore(input.text())?;
        }
        self.held.health_checks = ports;
        Ok(())
    }

    /// Removes everything that is ours, and nothing else: jumps, chains, sets, and
    /// `route_localnet` if it was us who set it. Chains to which rules of others lead are emptied
    /// and stay.
    ///
    /// # Errors
    /// When the tools fail.
    pub fn cleanup(&mut self) -> Result<(), Error> {
        let block = match self.tools.variant {
            Variant::Legacy => usize::MAX,
            Variant::Nft => REMOVAL_BLOCK,
        };
        let saved = self.saved()?;
        if saved.set_localnet() {
            // Before the note of it goes, and before the rules that guard loopback.
            write_route_localnet("0\n")?;
        }
        let input = removal(&saved, block);
        if !input.is_empty() {
            self.tools.restore(&input)?;
        }
        self.held = Held::default();
        destroy(sets::list(self.config.family)?)
    }

    /// Whether a table that is used was emptied by somebody else: the jump from its first hook is
    /// gone. Costs two short processes; ask every half minute.
    ///
    /// # Errors
    /// When the tools fail.
    pub fn flushed(&self) -> Result<bool, Error> {
        for table in Table::ALL {
            let mut jumps = JUMPS.iter().filter(|jump| jump.table == table);
            let Some(jump) = jumps.next() else { continue };
            let to = jump.to.to_string();
            if !self.tools.jumps(table.name(), jump.from.name(), &to)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl svc_core::Kernel<Renderer> for Kernel {
    type Error = Error;

    fn read(&mut self) -> Result<Ruleset<Key, Value>, Error> {
        Self::read(self)
    }

    fn commit(
        &mut self,
        transaction: &Transaction<Key, Value>,
    ) -> Result<(), CommitFailure<Error>> {
        Self::commit(self, transaction).map_err(|error| CommitFailure {
            failure: error.failure(),
            error,
        })
    }
}

/// Lines of a block of a removal with iptables-nft, whose tools walk a list of the chains of a
/// block for each line. With iptables-legacy each block would cost the whole table.
const REMOVAL_BLOCK: usize = 500;

/// The input that removes everything.
fn removal(saved: &Saved, block: usize) -> String {
    let mut input = String::new();
    // nat first: without its marks, nothing in filter does anything.
    for table in [Table::Nat, Table::Filter] {
        let chains = saved.chains().filter(|(of, _)| *of == table);
        let chains: Vec<_> = chains.map(|(_, chain)| chain).collect();
        let jumps = saved.jumps().iter().filter(|(jump, _)| jump.table == table);
        let mut lines: Vec<String> = Vec::new();
        for (jump, copies) in jumps {
            let line = format!("-D {} -j {}", jump.from.name(), jump.to);
            lines.extend((0..*copies).map(|_| line.clone()));
        }
        // All are emptied before one is deleted: they refer to each other.
        lines.extend(chains.iter().rev().map(|chain| format!(":{chain} - [0:0]")));
        let free = chains
            .iter()
            .filter(|chain| !saved.pinned().contains(&(table, **chain)));
        lines.extend(free.map(|chain| format!("-X {chain}")));
        for block in lines.chunks(block) {
            input += &format!("*{}\n{}\nCOMMIT\n", table.name(), block.join("\n"));
        }
    }
    input
}

/// A part of a transaction that was not applied.
struct Refusal {
    error: Error,
    /// The service ports whose lines the tools blamed.
    blamed: BTreeSet<ServicePortName>,
}

impl Refusal {
    fn new(error: Error, input: &Input, transaction: &Transaction<Key, Value>) -> Self {
        let mut blamed = BTreeSet::new();
        if let Error::Failed { lines, .. } = &error {
            let owner = |line: &usize| input.owner(*line, transaction).cloned();
            blamed.extend(lines.iter().filter_map(owner));
        }
        Self { error, blamed }
    }
}

const ROUTE_LOCALNET: &str = "/proc/sys/net/ipv4/conf/all/route_localnet";
const BE_LIBERAL: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";

fn route_localnet() -> Result<bool, Error> {
    let text = fs::read_to_string(ROUTE_LOCALNET).map_err(|source| Error::File {
        path: ROUTE_LOCALNET.into(),
        source,
    })?;
    Ok(text.trim() == "1")
}

fn write_route_localnet(value: &str) -> Result<(), Error> {
    fs::write(ROUTE_LOCALNET, value).map_err(|source| Error::File {
        path: ROUTE_LOCALNET.into(),
        source,
    })
}

/// B-176; without connection tracking there is nothing to be liberal about.
fn invalid_packets() -> InvalidPackets {
    let liberal = fs::read_to_string(BE_LIBERAL).unwrap_or_default();
    match liberal.trim() {
        "" | "0" => InvalidPackets::Drop,
        _ => InvalidPackets::Pass,
    }
}
