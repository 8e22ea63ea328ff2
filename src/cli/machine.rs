//! What this machine gives a process: descriptors and memory, as far as this one can see.

use std::fs;
use std::path::{Path, PathBuf};

use crate::app::affordable_connections;
use crate::config::{Config, Machine, MemoryLimit};

/// What there is for a gateway with this configuration.
pub(super) fn look(config: &Config) -> Machine {
    // A limit that can't be asked for can't be warned of.
    let descriptors = rlimit::Resource::NOFILE
        .get_hard()
        .unwrap_or(rlimit::INFINITY);
    Machine {
        descriptors,
        connections: affordable_connections(config, descriptors),
        memory: memory(Path::new("/")),
    }
}

/// The memory that a process may use, below `root`.
fn memory(root: &Path) -> Option<MemoryLimit> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let installed = read("proc/meminfo").and_then(|text| installed_bytes(&text));
    let group = read("proc/self/cgroup")
        .as_deref()
        .and_then(unified_group)
        .and_then(|group| least_limit(&root.join("sys/fs/cgroup"), &group));
    match (group, installed) {
        (Some(group), Some(installed)) if group >= installed => {
            Some(MemoryLimit::Installed(installed))
        }
        (Some(group), _) => Some(MemoryLimit::Group(group)),
        (None, installed) => installed.map(MemoryLimit::Installed),
    }
}

/// `MemTotal` of `/proc/meminfo` (`proc_meminfo(5)`).
fn installed_bytes(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The control group of version 2 in `/proc/self/cgroup` (`cgroups(7)`), as a relative path.
fn unified_group(text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // From inside a container its own group may look like one above the root.
    let is_inside = !path.split('/').any(|part| part == "..");
    Some(PathBuf::from(if is_inside { path } else { "" }))
}

/// The least `memory.max` of a group and those that it is in.
fn least_limit(root: &Path, group: &Path) -> Option<u64> {
    let limits = group.ancestors().filter_map(|group| {
        let text = fs::read_to_string(root.join(group).join("memory.max")).ok()?;
        // Or the word `max`.
        text.trim().parse().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Option<MemoryLimit> {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        memory(root.path())
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:       1048576 kB\nMemFree: 1 kB\n",
    );
    const GROUP: (&str, &str) = (
        "proc/self/cgroup",
        "1:name=x:/y\n0::/system.slice/a.service\n",
    );

    #[test]
    fn the_least_limit_of_all_groups_counts() {
        assert_eq!(machine(&[]), None);
        assert_eq!(machine(&[MEMINFO]), Some(MemoryLimit::Installed(1 << 30)));
        let own = "sys/fs/cgroup/system.slice/a.service/memory.max";
        let above = "sys/fs/cgroup/system.slice/memory.max";
        for (limits, expected) in [
            (vec![(own, "max\n")], MemoryLimit::Installed(1 << 30)),
            (vec![(own, "1000\n")], MemoryLimit::Group(1000)),
            (
                vec![(own, "2000\n"), (above, "1500\n")],
                MemoryLimit::Group(1500),
            ),
            (
                vec![(own, "99999999999\n")],
                MemoryLimit::Installed(1 << 30),
            ),
        ] {
            let files = [vec![MEMINFO, GROUP], limits].concat();
            assert_eq!(machine(&files), Some(expected), "{files:?}");
        }
    }

    #[test]
    fn a_group_that_looks_as_if_it_were_outside_is_the_root() {
        let group = ("proc/self/cgroup", "0::/../../x\n");
        let limit = ("sys/fs/cgroup/memory.max", "7\n");
        assert_eq!(machine(&[group, limit]), Some(MemoryLimit::Group(7)));
        assert_eq!(
            machine(&[("proc/self/cgroup", "0::/\n"), limit]),
            Some(MemoryLimit::Group(7))
        );
    }
}
