//! The memory limit of the cgroup this process is in, v1 or v2.
//!
//! In: /proc/self/cgroup and the controller's files. Out: the smallest limit from the own group up
//! to the root, or none. In a container the path in /proc may be the host's: where it does not
//! exist, the mount's own root is the container's group.

use crate::shell::files;
use crate::stdx::text::Truncating;
use core::fmt::{self, Write};

/// v1 says "no limit" as the largest multiple of the page size; nothing so large is a limit.
const NO_LIMIT: u64 = 1 << 62;

/// The limit in bytes.
pub fn limit() -> Option<u64> {
    limit_under("")
}

/// As [`limit`], with all paths below `root`.
fn limit_under(root: &str) -> Option<u64> {
    let mut buffer = [0; 8192];
    let groups = read(format_args!("{root}/proc/self/cgroup"), &mut buffer)?;
    let of = |mount: &str, file: &str, group: &str| smallest(root, mount, group, file);
    groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
            match controllers {
                // The only hierarchy, or the unified one of a hybrid.
                "" => of("/sys/fs/cgroup", "memory.max", group)
                    .or_else(|| of("/sys/fs/cgroup/unified", "memory.max", group)),
                _ if controllers.split(',').any(|c| c == "memory") => {
                    of("/sys/fs/cgroup/memory", "memory.limit_in_bytes", group)
                }
                _ => None,
            }
        })
        .min()
}

/// The smallest limit from `group` up to the mount's root.
fn smallest(root: &str, mount: &str, group: &str, file: &str) -> Option<u64> {
    let mut group = group.trim_end_matches('/');
    let mut least = None;
    loop {
        let limit = number(format_args!("{root}{mount}{group}/{file}"));
        least = [least, limit].into_iter().flatten().min();
        match group.rfind('/') {
            Some(end) => group = &group[..end],
            None => return least,
        }
    }
}

/// The number in a file; None for "max", for what is no limit, and where there is no file.
fn number(path: fmt::Arguments<'_>) -> Option<u64> {
    let limit = read(path, &mut [0; 64])?.trim().parse().ok()?;
    (limit < NO_LIMIT).then_some(limit)
}

fn read<'b>(path: fmt::Arguments<'_>, buffer: &'b mut [u8]) -> Option<&'b str> {
    let mut bytes = [0; 1024];
    let mut text = Truncating::new(&mut bytes);
    text.write_fmt(path).ok()?;
    if text.truncated {
        return None;
    }
    core::str::from_utf8(files::read(text.finish().as_bytes(), buffer).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{format, fs};

    /// A file system with these files; the limit that is read in it.
    fn limit_with(name: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root = format!("serval-cgroup-{name}-{}", std::process::id());
        let root = std::env::temp_dir().join(root);
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let limit = limit_under(root.to_str().unwrap());
        let _ = fs::remove_dir_all(&root);
        limit
    }

    #[test]
    fn v2_takes_the_smallest_on_the_way_up() {
        let files = [
            ("proc/self/cgroup", "0::/kubepods/pod1/c\n"),
            ("sys/fs/cgroup/kubepods/pod1/c/memory.max", "max\n"),
            ("sys/fs/cgroup/kubepods/pod1/memory.max", "268435456\n"),
            ("sys/fs/cgroup/kubepods/memory.max", "8589934592\n"),
        ];
        assert_eq!(limit_with("v2", &files), Some(256 << 20));
        assert_eq!(limit_with("v2max", &files[..2]), None);
    }

    #[test]
    fn v1_and_hybrid() {
        let files = [
            ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/a/b\n0::/\n"),
            ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "134217728\n"),
        ];
        assert_eq!(limit_with("v1", &files), Some(128 << 20));
        assert_eq!(limit_with("v1none", &files[..2]), None);
    }

    #[test]
    fn in_a_container_the_root_of_the_mount_is_the_group() {
        let files = [
            ("proc/self/cgroup", "0::/../../host/path\n"),
            ("sys/fs/cgroup/memory.max", "67108864\n"),
        ];
        assert_eq!(limit_with("container", &files), Some(64 << 20));
        assert_eq!(limit_with("nothing", &[("proc/self/cgroup", "\n")]), None);
        assert_eq!(limit_with("garbage", &[("proc/self/cgroup", "4:memory")]), None);
    }
}
