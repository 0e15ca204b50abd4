//! The configuration file while an agent runs: when it says something else, the agent ends, to be started
//! again with it (B-333).

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{info, warn};

use super::input::{Feed, Input};
use crate::cli::one_line;
use crate::host::Watch;

/// A file, and what it said at the start.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    watch: Watch,
    /// Nothing if it cannot be read: whatever it says later is other than the defaults.
    text: Option<Vec<u8>>,
}

impl ConfigFile {
    /// Watches a file, before its settings are read: what is written in between is a change.
    ///
    /// # Errors
    /// When its folder cannot be watched.
    pub(super) fn watch(path: &Path) -> io::Result<Self> {
        let watch = Watch::new(&[path.to_owned()])?;
        Ok(Self {
            path: path.to_owned(),
            watch,
            text: fs::read(path).ok(),
        })
    }

    /// Looks for changes on a thread of its own, and ends the loop for the first one.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn follow(self, feed: Feed) -> io::Result<()> {
        let follow = move || match self.await_change() {
            Ok(()) => {
                info!(file = %self.path.display(), "configuration changed");
                // Fails when the loop has ended already.
                let _ = feed.send(Input::Reconfigured);
            }
            Err(error) => {
                let error = one_line(&error);
                warn!(error, "changes of the configuration are no longer noticed");
            }
        };
        thread::Builder::new()
            .name("configuration".into())
            .spawn(follow)?;
        Ok(())
    }

    fn await_change(&self) -> io::Result<()> {
        loop {
            let mut ready = [PollFd::new(self.watch.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            if self.watch.take()? && self.is_changed() {
                return Ok(());
            }
        }
    }

    /// A file that is away is about to be replaced, and one that is written anew as it was is the same: in a
    /// ConfigMap, another file changed.
    fn is_changed(&self) -> bool {
        fs::read(&self.path).is_ok_and(|text| self.text.as_ref() != Some(&text))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::super::input::feed;
    use super::*;

    /// A version of a ConfigMap, as the kubelet puts it in place.
    fn put(folder: &Path, version: &str, text: &str) {
        fs::create_dir(folder.join(version)).unwrap();
        fs::write(folder.join(version).join("config.conf"), text).unwrap();
        symlink(version, folder.join("..next")).unwrap();
        fs::rename(folder.join("..next"), folder.join("..data")).unwrap();
    }

    #[test]
    fn b333_a_changed_configuration_file_ends_the_process() {
        let folder = std::env::temp_dir().join(format!("reconfigured-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        put(&folder, "..1", "mode: nftables");
        let path = folder.join("config.conf");
        symlink("..data/config.conf", &path).unwrap();
        let file = ConfigFile::watch(&path).unwrap();
        // News, but none of this file.
        put(&folder, "..2", "mode: nftables");
        assert!(file.watch.take().unwrap() && !file.is_changed());
        fs::remove_file(&path).unwrap();
        assert!(file.watch.take().unwrap() && !file.is_changed());
        symlink("..data/config.conf", &path).unwrap();
        let (feed, told) = feed();
        file.follow(feed).unwrap();
        put(&folder, "..3", "mode: ipvs");
        let told = told.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(matches!(told.input, Input::Reconfigured), "{told:?}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
