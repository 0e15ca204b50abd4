//! Hosts that lack something of iptables: folders of programs that stand in front of the real ones.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, id};
use std::sync::atomic::{AtomicU32, Ordering};

const PROXY: &str = env!("CARGO_BIN_EXE_iptables-proxy");
const SVCCTL: &str = env!("CARGO_BIN_EXE_svcctl");

/// Where the real programs are.
const REAL: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// A folder that is all of the program path.
struct Programs(PathBuf);

impl Programs {
    fn none() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("svc-programs-{}-{count}", id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// The real programs of the legacy variant, but `restore` refuses inputs with this text as a
    /// host does that has no such match.
    fn without(option: &str) -> Self {
        let programs = Self::none();
        for base in ["iptables", "ip6tables"] {
            for part in ["", "-save"] {
                let name = format!("{base}-legacy{part}");
                symlink(real(&name), programs.0.join(name)).unwrap();
            }
            symlink(real(&format!("{base}-legacy")), programs.0.join(base)).unwrap();
            let name = format!("{base}-legacy-restore");
            let restore = real(&name).display().to_string();
            let script = format!(
                "input=$(cat)\n\
                 case \"$input\" in *\"{option} \"*) echo \"{name}: no {option}\" >&2; exit 2;; esac\n\
                 printf '%s\\n' \"$input\" | {restore} \"$@\"\n"
            );
            programs.script(&name, &script);
        }
        programs
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::write(&path, format!("#!/bin/sh\nPATH={REAL}\n{text}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a program of ours over the tour, and answers with its exit code and what it said.
    fn run(&self, program: &str, args: &[&str]) -> (Option<i32>, String) {
        let tour = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/tour");
        let output = Command::new(program)
            .args(args)
            .args(["--variant", "legacy", "--node", "n1", "--manifests"])
            .arg(tour)
            .env("PATH", &self.0)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        (output.status.code(), said)
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn real(program: &str) -> PathBuf {
    let mut folders = REAL
        .split(':')
        .map(|folder| Path::new(folder).join(program));
    let found = folders.find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{program} is not installed"))
}

pub(crate) fn no_programs() {
    let (code, said) = Programs::none().run(PROXY, &["--once"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("iptables-legacy is not installed"), "{said}");
}

pub(crate) fn old_programs() {
    let programs = Programs::none();
    for name in ["iptables", "iptables-legacy"] {
        programs.script(name, "echo 'iptables v1.4.21'\n");
    }
    let (code, said) = programs.run(PROXY, &["--once"]);
    assert_eq!(code, Some(1), "{said}");
    let wanted = "iptables-legacy is version 1.4.21, and at least 1.6.2 is needed";
    assert!(said.contains(wanted), "{said}");
}

pub(crate) fn no_match_that_all_need() {
    let (code, said) = Programs::without("-m statistic").run(PROXY, &["--once"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the host lacks match statistic"), "{said}");
}

/// Without `recent` and ipset (B-157), which the folder lacks.
pub(crate) fn no_way_to_remember_clients() {
    let programs = Programs::without("-m recent");
    for (program, args, exit) in [
        // Everything differs from an empty kernel.
        (SVCCTL, &["diff", "--backend", "iptables"][..], 2),
        (PROXY, &["--once"], 0),
    ] {
        let (code, said) = programs.run(program, args);
        assert_eq!(code, Some(exit), "{program}: {said}");
        for family in ["IPv4", "IPv6"] {
            let wanted = format!(
                "warning: {family}: neither match recent nor ipset: session affinity is not kept"
            );
            assert!(said.contains(&wanted), "{program}: {said}");
        }
    }
    // With `recent` it is kept, and only its price is named.
    let (code, said) = Programs::without("-m nothing").run(PROXY, &["--once"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no ipset: many Services"), "{said}");
    assert!(!said.contains("is not kept"), "{said}");
}

/// The tour has a health check, which is no part of a plan's chains but let in beside them (B-207).
pub(crate) fn nothing_is_left_to_do() {
    let programs = Programs::without("-m nothing");
    let diff = ["diff", "--backend", "iptables"];
    // Of a trial before.
    assert_eq!(programs.run(PROXY, &["--cleanup"]).0, Some(0));
    let (code, missing) = programs.run(SVCCTL, &diff);
    assert_eq!(code, Some(2), "{missing}");
    let entry = "+ 10.96.157.44:80/tcp: 10.64.1.10:8080, 10.64.2.10:8080\n";
    assert!(missing.contains(entry), "{missing}");
    for writes in [true, false] {
        let (code, said) = programs.run(PROXY, &["--once"]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(said.contains("objects written"), writes, "{said}");
        let saved = Command::new(real("iptables-legacy-save")).output().unwrap();
        let saved = String::from_utf8(saved.stdout).unwrap();
        let admitted = "-A SVC-HEALTH -p tcp -m tcp --dport 32000 -j ACCEPT";
        assert!(saved.contains(admitted), "{saved}");
        let (code, said) = programs.run(SVCCTL, &diff);
        assert_eq!(code, Some(0), "{said}");
    }
}
