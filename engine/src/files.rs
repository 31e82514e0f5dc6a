//! Reading the files that an operator names: chains, keys, secrets, configurations.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// Room for what a file has grown by since its size was asked for, and for those that have no size, such as pipes.
const ROOM_MIN: usize = 64;

/// What a file held. It is wiped when it goes, and nothing of it was left behind elsewhere.
pub(crate) struct Content {
    /// One byte more than was allowed, if there is more.
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// The permissions of a regular file, where there are such things.
    pub(crate) mode: Option<u32>,
}

impl Content {
    /// The permissions, if every user of this machine has some: to read what is secret, or to write what is trusted. A
    /// group is how an administrator lets a server that is not root read what it does not own, so what a group may do is
    /// meant.
    pub(crate) fn exposed(&self) -> Option<u32> {
        self.mode.filter(|mode| mode & 0o007 != 0)
    }
}

/// Reads up to `len_max` bytes, and one more, so that the caller can see that there is more.
pub(crate) fn read(path: &Path, len_max: usize) -> io::Result<Content> {
    let mut file = File::open(path)?;
    let len_said = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut bytes = room(len_said.saturating_add(ROOM_MIN).min(len_max + 1));
    let mut len = 0;
    while len <= len_max {
        if len == bytes.len() {
            // By hand, because a vector that grows by itself leaves the old place as it is.
            let mut larger = room((2 * len).min(len_max + 1));
            larger[..len].copy_from_slice(&bytes);
            bytes = larger;
        }
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(len);
    Ok(Content { bytes, mode: mode(&file) })
}

fn room(len: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![0; len])
}

#[cfg(unix)]
fn mode(file: &File) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata().ok()?;
    metadata.is_file().then(|| metadata.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn mode(_: &File) -> Option<u32> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::{Permissions, remove_file, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_read_up_to_one_byte_more_than_is_allowed() {
        let path = std::env::temp_dir().join(format!("handfast-files-{}", std::process::id()));
        let content: Vec<u8> = (0..=255).cycle().take(1000).collect();
        write(&path, &content).unwrap();
        set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        for (len_max, len) in [(2000, 1000), (1000, 1000), (999, 1000), (100, 101), (0, 1)] {
            let read = read(&path, len_max).unwrap();
            assert_eq!((&read.bytes[..], read.mode), (&content[..len], Some(0o640)), "{len_max}");
        }
        remove_file(&path).unwrap();
        assert_eq!(read(&path, 1).map(|_| ()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_that_has_no_size_is_read_whole() {
        // It says that it has 0 bytes.
        let path = Path::new("/proc/self/maps");
        let read = read(path, 1 << 20).unwrap();
        assert!(read.bytes.len() > ROOM_MIN && read.bytes.ends_with(b"\n"));
    }
}
