//! Who holds the lock of iptables.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The lock file of the tools, unless told otherwise; they look into the environment as well.
pub(super) fn lock_file() -> PathBuf {
    let set = std::env::var_os("XTABLES_LOCKFILE").filter(|path| !path.is_empty());
    set.map_or_else(|| PathBuf::from("/run/xtables.lock"), PathBuf::from)
}

/// Names the process that holds the lock, for people to read.
pub(super) fn holder(lock_file: &Path) -> String {
    let Ok(file) = fs::metadata(lock_file) else {
        return format!("{} cannot be looked at", lock_file.display());
    };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    match pid_of(&locks, file.ino()) {
        None => "nobody holds it any more".into(),
        // In another process namespace.
        Some(pid) if pid <= 0 => "a process outside this container holds it".into(),
        Some(pid) => {
            let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("process {pid} ({}) holds it", command.trim_end())
        }
    }
}

/// The process that holds a lock on a file, from the text of `/proc/locks`.
fn pid_of(locks: &str, inode: u64) -> Option<i64> {
    let end = format!(":{inode}");
    for line in locks.lines() {
        let mut words = line.split_whitespace();
        // Those that wait stand behind an arrow.
        let (Some(_), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        if kind == "->" {
            continue;
        }
        let rest: Vec<&str> = words.collect();
        if let [_, _, pid, file, ..] = rest.as_slice()
            && file.ends_with(&end)
        {
            return pid.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_not_one_who_waits() {
        let locks = "1: FLOCK  ADVISORY  WRITE 25266 fe:00:5398545 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 7 fe:00:17 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 42 fe:00:17 0 EOF\n";
        assert_eq!(pid_of(locks, 17), Some(42));
        assert_eq!(pid_of(locks, 5398545), Some(25266));
        assert_eq!(pid_of(locks, 1), None);
        assert_eq!(pid_of("broken", 1), None);
    }
}
