//! What kind of storage a path is on, as far as the system tells: an inbox on memory, or on a volume that goes with the pod,
//! survives no crash of what it is for.

use std::path::{Path, PathBuf};

/// Storage that does not last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ephemeral {
    /// tmpfs or ramfs.
    Memory,
    /// A Kubernetes `emptyDir`.
    EmptyDir,
    /// A container's own layer.
    Overlay,
}

impl Ephemeral {
    /// What is wrong with it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "is in memory (tmpfs): a restart of the machine loses it",
            Self::EmptyDir => "looks like an emptyDir: it goes with the pod",
            Self::Overlay => "is in the container's own layer: it goes with the container",
        }
    }
}

/// Whether a file at this path, there already or not, would be on storage that does not last.
#[must_use]
pub fn ephemeral(path: &Path) -> Option<Ephemeral> {
    let folder = path
        .ancestors()
        .skip(1)
        .map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let real = folder.into_iter().find_map(|folder| folder.canonicalize().ok())?;
    judge(&std::fs::read_to_string("/proc/self/mountinfo").ok()?, &real)
}

/// proc(5): id, parent, device, root, mount point, options, optional fields, `-`, type, source, options.
fn judge(mountinfo: &str, path: &Path) -> Option<Ephemeral> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, PathBuf::from(place.next()?.replace("\\040", " ")));
        Some((point, root.to_owned(), kind.split(' ').next()?.to_owned()))
    });
    // Of several at one point, the last hides the others.
    let (_, root, kind) = mounts
        .filter(|(point, ..)| path.starts_with(point))
        .max_by_key(|(point, ..)| point.components().count())?;
    match kind.as_str() {
        "tmpfs" | "ramfs" => Some(Ephemeral::Memory),
        "overlay" => Some(Ephemeral::Overlay),
        _ if root.contains("kubernetes.io~empty-dir") => Some(Ephemeral::EmptyDir),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:1 / / rw - ext4 /dev/vda rw
23 22 0:5 / /dev/shm rw,nosuid shared:2 - tmpfs tmpfs rw
24 22 254:1 /var/lib/kubelet/pods/1/volumes/kubernetes.io~empty-dir/inbox /var/lib/hookwarden rw - ext4 /dev/vda rw
25 22 0:9 / /with\\040space rw - overlay overlay rw
26 22 0:9 / /stacked rw - tmpfs tmpfs rw
27 26 254:2 / /stacked rw - xfs /dev/vdb rw
";

    #[test]
    fn the_innermost_mount_decides() {
        let kind = |path: &str| judge(MOUNTS, Path::new(path));
        assert_eq!(kind("/dev/shm/a"), Some(Ephemeral::Memory));
        assert_eq!(kind("/dev/shmoo"), None);
        assert_eq!(kind("/var/lib/hookwarden"), Some(Ephemeral::EmptyDir));
        assert_eq!(kind("/var/lib"), None);
        assert_eq!(kind("/with space/x"), Some(Ephemeral::Overlay));
        assert_eq!(kind("/stacked"), None);
    }
}
