//! `svcctl demo`: manifests, plan, kernel and packets, in namespaces of its own.

mod names;
mod replicas;
mod screen;
mod show;
mod world;

use std::error::Error;
use std::io::{self, BufRead};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::sandbox::{Isolation, isolate};

use screen::Screen;
use world::World;

/// Shows Services at work in network namespaces of its own, without a cluster and without root
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Manifests to run instead of the built-in ones
    #[arg(long, value_name = "PATH")]
    manifests: Vec<PathBuf>,
    /// Leave the sandbox open and tell how to look around
    #[arg(long)]
    keep: bool,
}

/// Runs the demo. The process must have one thread only.
///
/// # Errors
/// What the kernel lacks, or what went wrong.
pub fn run(args: &DemoArgs) -> Result<ExitCode, Box<dyn Error>> {
    let mut screen = Screen::new();
    let isolation = isolate()?;
    screen.title("A node with pods, in network namespaces of this process");
    screen.line(match isolation {
        Isolation::Root => "as root: new network and mount namespaces",
        Isolation::UserNamespace => "without root: new user, network and mount namespaces",
    });
    let mut world = World::build(&args.manifests, &mut screen)?;
    let good = show::all(&mut world, &mut screen)?;
    if args.keep {
        keep(&world, isolation, &mut screen)?;
    }
    screen.title("Clean-up");
    world.clean_up()?;
    screen.line("rules removed; the namespaces go with this process");
    screen.done();
    Ok(match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Waits for the end of a line, or of the input, with the sandbox open.
fn keep(world: &World, isolation: Isolation, screen: &mut Screen) -> Result<(), Box<dyn Error>> {
    let enter = match isolation {
        Isolation::Root => "nsenter -n",
        Isolation::UserNamespace => "nsenter -U --preserve-credentials -n",
    };
    screen.title("The sandbox stays open");
    let node = world.sandbox.node();
    screen.line(&format!(
        "node:   {enter} -t {} nft list table ip {}",
        node.tid(),
        world::TABLE
    ));
    for (name, namespace) in world.places() {
        let curl = world.first_url();
        screen.line(&format!(
            "{name}: {enter} -t {} curl {curl}",
            namespace.tid()
        ));
    }
    screen.line("Enter ends it.");
    io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}
