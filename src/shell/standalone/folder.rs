//! Watching the folder of manifests: what counts, and when it has settled.
//!
//! In: the folder, looked at again and again. Out: the files' text once it has not changed for
//! MANIFEST_SETTLE_MS. Dotfiles and names that end in `~` are ignored; links are followed, so that
//! a mounted ConfigMap (files are links through `..data`) changes as one.

use super::manifests::{File, Files};
use crate::limits::{Capacities, MANIFEST_SETTLE_MS, MAX_MANIFESTS};
use crate::shell::files::{self, FileError};
use crate::shell::place::boxed_zeroed;
use crate::stdx::fnv::Fnv;
use crate::stdx::{Duration, Instant, Now, Short, touch};
use core::ffi::CStr;
use core::fmt;
use std::boxed::Box;
use std::vec;

/// Why the folder could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderError {
    /// The folder itself.
    Folder(FileError),
    /// One of its files.
    File(Short<255>, FileError),
    /// More files than MAX_MANIFESTS.
    TooManyFiles,
    /// More text than MAX_MANIFEST_BYTES as it is set.
    TooMuchText(u32),
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FolderError::Folder(error) => write!(f, "the folder cannot be read: {error}"),
            FolderError::File(name, error) => write!(f, "{name}: cannot be read: {error}"),
            FolderError::TooManyFiles => write!(f, "more than {MAX_MANIFESTS} manifests"),
            FolderError::TooMuchText(bytes) => {
                write!(f, "more than {bytes} bytes of manifests (--max-manifest-bytes)")
            }
        }
    }
}

/// The folder, and room for what is in it.
#[derive(Debug)]
pub struct Folder {
    path: Short<1024>,
    files: Box<Files>,
    text: Box<[u8]>,
    /// Fingerprint last seen, and since when.
    seen: u64,
    since: Instant,
    /// Fingerprint last taken.
    taken: u64,
}

impl Folder {
    /// Takes the memory it needs for good.
    pub fn new(path: &str, capacities: &Capacities) -> Option<Folder> {
        let path = Short::new(path).ok()?;
        let mut files = boxed_zeroed::<Files>();
        files.set_cap(MAX_MANIFESTS);
        let (seen, since, taken) = (0, Instant::default(), 0);
        let mut text = vec![0; capacities.max_manifest_bytes as usize].into_boxed_slice();
        touch(&mut *text);
        Some(Folder { path, files, text, seen, since, taken })
    }

    /// Bytes it holds: a line of the memory plan.
    pub fn bytes(capacities: &Capacities) -> u64 {
        u64::from(capacities.max_manifest_bytes) + size_of::<Files>() as u64
    }

    /// The files that were read last.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Their text.
    pub fn text(&self) -> &[u8] {
        &self.text[..]
    }

    /// Looks at the folder. True: it changed, has settled, and was read; every time but the first
    /// it must have rested.
    pub fn poll(&mut self, now: Now) -> Result<bool, FolderError> {
        let folder = files::Folder::open(self.path.as_str().as_bytes());
        let folder = folder.map_err(FolderError::Folder)?;
        let fingerprint = self.scan(&folder)?;
        if fingerprint != self.seen {
            (self.seen, self.since) = (fingerprint, now.mono);
        }
        let settle = Duration::from_millis(u64::from(MANIFEST_SETTLE_MS));
        let settled = self.taken == 0 || now.mono.since(self.since) >= settle;
        if fingerprint == self.taken || !settled {
            return Ok(false);
        }
        self.read(&folder)?;
        // Changed while it was read: it has not settled after all.
        if self.scan(&folder)? != fingerprint {
            return Ok(false);
        }
        self.read(&folder)?;
        self.taken = fingerprint;
        Ok(true)
    }

    /// Lists the manifests in order of name; a hash of all that tells a change.
    fn scan(&mut self, folder: &files::Folder) -> Result<u64, FolderError> {
        let files = &mut self.files;
        files.clear();
        let mut full = false;
        let listed = folder.list(|name| {
            if let Some(name) = manifest_name(name) {
                full |= files.push(File { name, start: 0, end: 0 }).is_err();
            }
        });
        listed.map_err(FolderError::Folder)?;
        if full {
            return Err(FolderError::TooManyFiles);
        }
        files.as_mut_slice().sort_unstable_by_key(|f| f.name);
        let mut hash = Fnv::new();
        for file in files.as_slice() {
            let stat = with_name(&file.name, |name| folder.stat(name));
            let stat = stat.map_err(|error| FolderError::File(file.name, error))?;
            hash.write(file.name.as_str().as_bytes());
            for number in [stat.bytes, stat.modified_ns, stat.inode] {
                hash.write(&number.to_le_bytes());
            }
        }
        // Never 0, which says that nothing was seen.
        Ok(hash.finish() | 1)
    }

    fn read(&mut self, folder: &files::Folder) -> Result<(), FolderError> {
        let mut start = 0;
        let most = self.text.len() as u32;
        for file in self.files.as_mut_slice() {
            let room = &mut self.text[start..];
            let read = with_name(&file.name, |name| folder.read(name, room).map(<[u8]>::len));
            let len = match read {
                Ok(len) => len,
                Err(FileError::TooLarge { .. }) => return Err(FolderError::TooMuchText(most)),
                Err(error) => return Err(FolderError::File(file.name, error)),
            };
            (file.start, file.end) = (start, start + len);
            start += len;
        }
        Ok(())
    }
}

/// The name, when the file is a manifest.
fn manifest_name(name: &CStr) -> Option<Short<255>> {
    let name = name.to_str().ok()?;
    let known = [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending));
    (known && !name.starts_with('.')).then(|| Short::new(name).ok())?
}

fn with_name<T>(
    name: &Short<255>,
    f: impl FnOnce(&CStr) -> Result<T, FileError>,
) -> Result<T, FileError> {
    let mut bytes = [0u8; 256];
    let text = name.as_str().as_bytes();
    bytes[..text.len()].copy_from_slice(text);
    f(CStr::from_bytes_until_nul(&bytes).map_err(|_| FileError::Path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::Wall;
    use std::fs;
    use std::path::PathBuf;

    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str) -> Temporary {
            let id = std::process::id();
            let path = std::env::temp_dir().join(std::format!("serval-{name}-{id}"));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Temporary(path)
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn at(ms: u64) -> Now {
        Now { mono: Instant(ms * 1_000_000), wall: Wall(0) }
    }

    #[test]
    fn the_first_look_counts_later_ones_after_they_rested() {
        let dir = Temporary::new("folder");
        let settle = u64::from(MANIFEST_SETTLE_MS);
        fs::write(dir.0.join("b.yaml"), "b").unwrap();
        fs::write(dir.0.join("a.yml"), "aa").unwrap();
        for ignored in [".hidden.yaml", "c.yaml~", "notes.txt"] {
            fs::write(dir.0.join(ignored), "x").unwrap();
        }
        let mut folder = Folder::new(dir.0.to_str().unwrap(), &Capacities::DEFAULT).unwrap();
        assert_eq!(folder.poll(at(0)), Ok(true));
        let names: std::vec::Vec<_> =
            folder.files().as_slice().iter().map(|f| std::format!("{}", f.name)).collect();
        assert_eq!(names, ["a.yml", "b.yaml"]);
        assert_eq!(&folder.text()[..3], b"aab");
        assert_eq!(folder.poll(at(10)), Ok(false));
        fs::write(dir.0.join("a.yml"), "aaa").unwrap();
        assert_eq!(folder.poll(at(20)), Ok(false));
        assert_eq!(folder.poll(at(20 + settle - 1)), Ok(false));
        assert_eq!(folder.poll(at(20 + settle)), Ok(true));
        assert_eq!(&folder.text()[..4], b"aaab");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let mut folder = Folder::new("/nowhere/at/all", &Capacities::DEFAULT).unwrap();
        assert!(matches!(folder.poll(at(0)), Err(FolderError::Folder(_))));
    }
}
