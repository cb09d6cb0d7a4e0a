//! The mount table: which file systems there are, where, and which of them can fill up.
//!
//! Reads mountinfo as it comes and skips lines that it does not understand. It knows two tables: the
//! machine's (process 1) and our own, which differ in a container. A file system is known by its
//! device number, which is the same in both. Pure: reading the files is [`proc`](super::proc)'s.

use std::path::{Path, PathBuf};

/// One mounted file system, as one line of mountinfo tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// The mount's number; the same in every table that shows it.
    pub id: u64,
    /// The file system's device number, `8:1`; the same for all mounts of it.
    pub device: String,
    /// Which directory of the file system is mounted; `/` unless it is a bind mount or a subvolume.
    pub root: String,
    /// Where it is mounted.
    pub point: String,
    /// This mount is read-only, whatever the file system is.
    pub read_only: bool,
    /// The file system itself is read-only, through whichever mount.
    pub disk_read_only: bool,
    /// `ext4`.
    pub kind: String,
    /// `/dev/sda1`.
    pub source: String,
}

impl Mount {
    /// `ext4 on /dev/sda1`.
    pub fn words(&self) -> String {
        format!("{} on {}", self.kind, self.source)
    }
}

/// Every mount of a mountinfo that can be reached: one that another was mounted over is left out.
/// `None` when no line can be understood.
pub fn table(text: &str) -> Option<Vec<Mount>> {
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in text.lines().filter_map(line) {
        mounts.push(mount);
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut reached: Vec<Mount> = mounts.into_iter().rev().filter(|mount| seen.insert(mount.point.clone())).collect();
    reached.reverse();
    (!reached.is_empty()).then_some(reached)
}

fn line(text: &str) -> Option<Mount> {
    let (front, back) = text.split_once(" - ")?;
    let mut front = front.split(' ');
    let id = front.next()?.parse().ok()?;
    let device = front.nth(1)?.to_string();
    let (root, point, options) = (plain(front.next()?), plain(front.next()?), front.next()?);
    let mut back = back.split(' ');
    let (kind, source) = (plain(back.next()?), plain(back.next()?));
    let ro = |options: &str| options.split(',').any(|option| option == "ro");
    let disk_read_only = back.next().is_some_and(ro);
    let known = device.contains(':') && point.starts_with('/');
    known.then(|| Mount { id, device, root, point, read_only: ro(options), disk_read_only, kind, source })
}

/// Undoes the octal escapes of space, tab, newline and backslash.
fn plain(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let code = (*first == b'\\').then(|| others.get(..3)).flatten();
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        let (byte, used) = code.map_or((*first, 1), |code| (code, 4));
        bytes.push(byte);
        rest = rest.get(used..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Images are full by design.
const IMAGES: &[&str] = &["squashfs", "iso9660", "erofs", "cramfs", "romfs"];
/// Local file systems whose source is not a path below /dev.
const LOCAL: &[&str] = &["zfs", "btrfs", "bcachefs", "ubifs", "jffs2"];
/// Where container engines keep mounts of their own, one for each layer, container and volume.
const ENGINES: &[&str] =
    &["/var/lib/docker/", "/var/lib/containers/", "/var/lib/containerd/", "/run/containerd/", "/var/lib/kubelet/"];

/// True for a file system on a disk of this machine that can fill up: no network, no memory, no image. A fuse
/// file system with a block device below it (ntfs, exfat) is one.
fn is_real(mount: &Mount) -> bool {
    let image = IMAGES.contains(&mount.kind.as_str());
    // /dev/fuse is the source of file systems that a program makes up.
    let made_up = mount.kind == "fuse" || mount.kind.starts_with("fuse.") || mount.kind == "devtmpfs";
    let network = matches!(mount.kind.as_str(), "overlay" | "9p" | "virtiofs" | "nfs" | "nfs4" | "cifs" | "smb3");
    !image && !made_up && !network && (mount.source.starts_with("/dev/") || LOCAL.contains(&mount.kind.as_str()))
}

/// A file system of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where the machine has it; its source where only parts of it are mounted.
    pub name: String,
    /// The mount it is named by.
    pub mount: Mount,
    /// Where it can be asked from here; `None` when no part of it is mounted here.
    pub place: Option<PathBuf>,
}

/// The real local file systems of the machine, each once, by name. `host` is the machine's table, `own` is ours,
/// `root` is where the machine's / should be. Those whose name or mount point is in `exclude` are left out.
pub fn found(host: &[Mount], own: &[Mount], root: &Path, exclude: &[String]) -> Vec<Found> {
    let whole_root = host.iter().any(|mount| mount.point == "/" && is_real(mount));
    let mut all: Vec<Found> = Vec::new();
    for mount in host.iter().filter(|mount| is_real(mount) && !of_engine(mount)) {
        // A subvolume is a whole; any other mount of a part is a bind mount, and says little about its place.
        let whole = mount.root == "/" || mount.point == "/" || (mount.kind == "btrfs" && whole_root);
        let name = if whole { &mount.point } else { &mount.source };
        let rank = |whole: bool, name: &str| (!whole, name.len(), name.to_string());
        match all.iter_mut().find(|other| other.mount.device == mount.device) {
            Some(other) => {
                let is_whole = other.name == other.mount.point;
                if rank(whole, name) < rank(is_whole, &other.name) {
                    other.name.clone_from(name);
                    other.mount = mount.clone();
                }
            }
            None => all.push(Found { name: name.clone(), mount: mount.clone(), place: None }),
        }
    }
    let is_excluded = |found: &Found| {
        let points = host.iter().filter(|mount| mount.device == found.mount.device).map(|mount| &mount.point);
        exclude.contains(&found.name) || points.into_iter().any(|point| exclude.contains(point))
    };
    all.retain(|found| !is_excluded(found) && found.name.len() <= 256 && !found.name.chars().any(char::is_control));
    for found in &mut all {
        let wanted = root.join(found.mount.point.trim_start_matches('/'));
        let here = own.iter().filter(|mount| mount.device == found.mount.device);
        let best = here.min_by_key(|mount| (Path::new(&mount.point) != wanted, mount.point.len(), &mount.point));
        found.place = best.map(|mount| PathBuf::from(&mount.point));
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all.dedup_by(|a, b| a.name == b.name);
    all
}

fn of_engine(mount: &Mount) -> bool {
    ENGINES.iter().any(|engine| mount.point.starts_with(engine))
}

/// Where the machine has the file at `place`, which is on our mount `own`, and the machine's mount there. `None`
/// when the machine does not have our mount's file system, or a link leads there.
pub fn on_host<'a>(place: &Path, own: &Mount, host: &'a [Mount]) -> Option<(PathBuf, &'a Mount)> {
    let inside = place.strip_prefix(&own.point).ok()?;
    let inside = Path::new(&own.root).join(inside);
    let theirs = host.iter().filter(|mount| mount.device == own.device);
    // The same directory may be mounted at several places; any of them at which it can be seen is proof enough.
    let mut covered = None;
    for mount in theirs {
        let Ok(rest) = inside.strip_prefix(&mount.root) else { continue };
        let path = Path::new(&mount.point).join(rest);
        let Some(over) = covering(&path, host) else { continue };
        if over.device == own.device {
            return Some((path, over));
        }
        covered.get_or_insert((path, over));
    }
    covered
}

/// The mount that the file at `path` is on.
fn covering<'a>(path: &Path, mounts: &'a [Mount]) -> Option<&'a Mount> {
    mounts.iter().filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
28 27 8:17 / /srv/big\\040data rw,relatime shared:2 - xfs /dev/sdb1 rw
29 27 8:1 /srv/www /var/www rw,relatime shared:1 - ext4 /dev/sda1 rw
30 27 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro
31 27 0:40 / /mnt/nas rw - nfs4 nas:/export rw
32 27 0:41 / /tmp rw - tmpfs tmpfs rw
33 27 0:42 / /etc/pve rw - fuse /dev/fuse rw
34 27 0:43 / /mnt/ssh rw - fuse.sshfs me@there:/ rw
35 27 8:33 / /media/stick rw - fuseblk /dev/sdc1 rw
36 27 0:44 / /tank rw - zfs tank rw
37 27 0:45 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
38 27 8:49 / /var/lib/kubelet/pods/1/volumes/x rw - ext4 /dev/sdd rw
39 27 11:0 / /media/cd ro - iso9660 /dev/sr0 ro
";

    fn names(found: &[Found]) -> Vec<&str> {
        found.iter().map(|found| found.name.as_str()).collect()
    }

    #[test]
    fn real_local_file_systems_are_found_once_and_nothing_else() {
        let host = table(HOST).unwrap();
        let found = found(&host, &host, Path::new("/"), &[]);
        assert_eq!(names(&found), ["/", "/media/stick", "/srv/big data", "/tank"]);
        assert!(found.iter().all(|found| found.place.as_deref() == Some(Path::new(&found.name))));
    }

    #[test]
    fn what_is_excluded_by_any_of_its_mount_points_is_left_out() {
        let host = table(HOST).unwrap();
        let exclude = ["/media/stick".to_string(), "/var/www".to_string()];
        assert_eq!(names(&found(&host, &host, Path::new("/"), &exclude)), ["/srv/big data", "/tank"]);
    }

    #[test]
    fn a_container_asks_the_machines_file_systems_through_its_own_mounts() {
        let host = table(HOST).unwrap();
        let own = table(
            "100 1 0:99 / / rw - overlay overlay rw\n\
             101 100 8:1 /var/lib/docker/containers/x/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n\
             102 100 8:17 /db /data ro - xfs /dev/sdb1 rw\n",
        )
        .unwrap();
        let places: Vec<_> =
            found(&host, &own, Path::new("/"), &[]).into_iter().map(|found| (found.name, found.place)).collect();
        let expected =
            [("/", Some("/etc/hosts")), ("/media/stick", None), ("/srv/big data", Some("/data")), ("/tank", None)];
        assert_eq!(places, expected.map(|(name, place)| (name.to_string(), place.map(PathBuf::from))));
        // Without the machine's table they have no names but their devices.
        assert_eq!(names(&found(&own, &own, Path::new("/"), &[])), ["/dev/sda1", "/dev/sdb1"]);
    }

    #[test]
    fn subvolumes_and_layered_roots_are_named_by_their_place() {
        let btrfs = table(
            "1 0 0:30 /@ / rw - btrfs /dev/nvme0n1p2 rw,subvol=/@\n\
             2 1 0:30 /@home /home rw - btrfs /dev/nvme0n1p2 rw,subvol=/@home\n\
             3 1 0:31 /@data /data rw - btrfs /dev/sdb rw\n",
        )
        .unwrap();
        assert_eq!(names(&found(&btrfs, &btrfs, Path::new("/"), &[])), ["/", "/data"]);
        let ostree = table(
            "1 0 8:3 /ostree/deploy/x/deploy/1.0 / rw - xfs /dev/sda3 rw\n2 1 8:3 / /sysroot ro - xfs /dev/sda3 rw\n",
        )
        .unwrap();
        assert_eq!(names(&found(&ostree, &ostree, Path::new("/"), &[])), ["/"]);
    }

    #[test]
    fn a_mount_that_is_covered_is_not_in_the_table() {
        let mounts = table("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /d rw - ext4 /dev/sdb rw\n3 2 8:3 / /d ro - ext4 /dev/sdc ro\n").unwrap();
        assert_eq!(mounts.iter().map(|mount| mount.id).collect::<Vec<_>>(), [1, 3]);
        assert!(mounts[1].read_only && mounts[1].disk_read_only && !mounts[0].disk_read_only);
    }

    #[test]
    fn the_options_of_the_mount_and_of_the_disk_are_told_apart() {
        let one = |options: &str, disk: &str| {
            let mount =
                &table(&format!("1 0 8:1 / /d {options} shared:1 master:2 - ext4 /dev/sda1 {disk}\n")).unwrap()[0];
            (mount.read_only, mount.disk_read_only)
        };
        assert_eq!(one("ro,relatime", "rw,errors=remount-ro"), (true, false));
        assert_eq!(one("rw,relatime", "ro,errors=remount-ro"), (false, true));
    }

    #[test]
    fn the_machines_place_of_a_path_in_a_container_is_found() {
        let host = table(HOST).unwrap();
        let mount = |root: &str, point: &str, device: &str| Mount {
            device: device.to_string(),
            root: root.to_string(),
            point: point.to_string(),
            ..Mount::default()
        };
        let at = |place: &str, own: &Mount| {
            on_host(Path::new(place), own, &host).map(|(path, mount)| (path, mount.device.as_str()))
        };
        let path = |path: &str, device: &'static str| Some((PathBuf::from(path), device));
        assert_eq!(at("/data/x", &mount("/db", "/data", "8:17")), path("/srv/big data/db/x", "8:17"));
        // A directory that was bound before a disk was mounted over it.
        assert_eq!(at("/data", &mount("/srv/big data", "/data", "8:1")), path("/srv/big data", "8:17"));
        assert_eq!(at("/www", &mount("/srv/www", "/www", "8:1")), path("/srv/www", "8:1"));
        assert_eq!(at("/data", &mount("/", "/data", "9:9")), None);
    }

    #[test]
    fn damaged_lines_are_skipped() {
        for text in
            ["", "x", "1 0 8:1 / / rw", "1 0 8:1 / / rw -", "1 0 8:1 / / rw - ext4", "x 0 8:1 / / rw - a b c", "\u{0}"]
        {
            assert_eq!(table(text), None, "{text}");
        }
        assert_eq!(plain("a\\040b\\134\\0\\999\\"), "a b\\\\0\\999\\");
    }
}
