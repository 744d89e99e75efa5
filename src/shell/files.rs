//! Files without allocation: read into a fixed buffer, list a folder, replace a file atomically.
//!
//! In: paths as bytes. Out: bytes in the caller's buffers. std's `read_dir` allocates for each
//! entry and its paths allocate beyond 383 bytes, so this goes to the system calls.

use core::ffi::{CStr, c_int};
use core::fmt;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Longest path (Linux PATH_MAX, with its NUL).
const MAX_PATH_BYTES: usize = libc::PATH_MAX as usize;

/// Why a file was not read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileError {
    /// Longer than the buffer it was to be read into.
    TooLarge {
        /// Size of the file as far as known.
        bytes: u64,
    },
    /// A path longer than PATH_MAX or with a NUL inside.
    Path,
    /// Not a regular file.
    NotAFile,
    /// The kernel's answer.
    Os(i32),
}

impl FileError {
    /// Whether it says that the file does not exist.
    pub fn is_missing(self) -> bool {
        self == FileError::Os(libc::ENOENT)
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            FileError::TooLarge { bytes } => write!(f, "too large ({bytes} bytes)"),
            FileError::Path => f.write_str("not a usable path"),
            FileError::NotAFile => f.write_str("not a regular file"),
            FileError::Os(libc::ENOENT) => f.write_str("no such file or folder"),
            FileError::Os(libc::EACCES) => f.write_str("permission denied"),
            FileError::Os(libc::ENOSPC) => f.write_str("no space left"),
            FileError::Os(libc::EROFS) => f.write_str("read-only file system"),
            FileError::Os(libc::ENOTDIR) => f.write_str("not a folder"),
            FileError::Os(errno) => write!(f, "errno {errno}"),
        }
    }
}

/// The calling thread's errno.
pub fn errno() -> i32 {
    // SAFETY: the location is valid for the calling thread.
    unsafe { *libc::__errno_location() }
}

fn check(result: c_int) -> Result<c_int, FileError> {
    if result < 0 { Err(FileError::Os(errno())) } else { Ok(result) }
}

/// Calls `f` with a path as the system calls want it.
fn with_path<T>(
    path: &[u8],
    f: impl FnOnce(&CStr) -> Result<T, FileError>,
) -> Result<T, FileError> {
    let mut buffer = [0u8; MAX_PATH_BYTES];
    buffer.get_mut(..path.len()).ok_or(FileError::Path)?.copy_from_slice(path);
    let terminated = buffer.get(..=path.len()).ok_or(FileError::Path)?;
    f(CStr::from_bytes_with_nul(terminated).map_err(|_| FileError::Path)?)
}

fn open_at(folder: RawFd, path: &CStr, flags: c_int, mode: u32) -> Result<OwnedFd, FileError> {
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: the path is terminated; the new descriptor is owned by nobody else.
    unsafe {
        let fd = check(libc::openat(folder, path.as_ptr(), flags, mode))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// What a file is, as far as a watcher of a folder wants to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// A regular file (links are followed).
    pub is_file: bool,
    /// A folder (links are followed).
    pub is_folder: bool,
    /// Size in bytes.
    pub bytes: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub modified_ns: u64,
    /// Inode: another file under the same name has another one.
    pub inode: u64,
}

impl Stat {
    fn of(stat: &libc::stat) -> Stat {
        let kind = stat.st_mode & libc::S_IFMT;
        Stat {
            is_file: kind == libc::S_IFREG,
            is_folder: kind == libc::S_IFDIR,
            bytes: stat.st_size as u64,
            modified_ns: (stat.st_mtime as u64).saturating_mul(1_000_000_000)
                + stat.st_mtime_nsec as u64,
            inode: stat.st_ino,
        }
    }
}

fn stat_fd(fd: RawFd) -> Result<Stat, FileError> {
    // SAFETY: zero bytes are a stat; the pointer is to one.
    unsafe {
        let mut stat: libc::stat = core::mem::zeroed();
        check(libc::fstat(fd, &raw mut stat))?;
        Ok(Stat::of(&stat))
    }
}

/// Reads a whole file; what is in `buffer` of it.
pub fn read<'b>(path: &[u8], buffer: &'b mut [u8]) -> Result<&'b [u8], FileError> {
    with_path(path, |path| read_at(libc::AT_FDCWD, path, buffer)).map(|len| &buffer[..len])
}

fn read_at(folder: RawFd, path: &CStr, buffer: &mut [u8]) -> Result<usize, FileError> {
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    let file = open_at(folder, path, libc::O_RDONLY | libc::O_NONBLOCK, 0)?;
    let stat = stat_fd(file.as_raw_fd())?;
    if !stat.is_file {
        return Err(FileError::NotAFile);
    }
    let mut len = 0;
    loop {
        let rest = &mut buffer[len..];
        if rest.is_empty() {
            // One byte more than the buffer decides whether it was all.
            return match read_some(file.as_raw_fd(), &mut [0; 1])? {
                0 => Ok(len),
                _ => Err(FileError::TooLarge { bytes: stat.bytes.max(len as u64 + 1) }),
            };
        }
        match read_some(file.as_raw_fd(), rest)? {
            0 => return Ok(len),
            n => len += n,
        }
    }
}

fn read_some(fd: RawFd, buffer: &mut [u8]) -> Result<usize, FileError> {
    loop {
        // SAFETY: pointer and length are those of a slice we may write.
        let n = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        match usize::try_from(n) {
            Ok(n) => return Ok(n),
            Err(_) if errno() == libc::EINTR => {}
            Err(_) => return Err(FileError::Os(errno())),
        }
    }
}

fn write_all(fd: RawFd, mut bytes: &[u8]) -> Result<(), FileError> {
    while !bytes.is_empty() {
        // SAFETY: pointer and length are those of a slice we may read.
        let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(n) {
            Ok(n) => bytes = &bytes[n..],
            Err(_) if errno() == libc::EINTR => {}
            Err(_) => return Err(FileError::Os(errno())),
        }
    }
    Ok(())
}

/// An open folder; names are relative to it, whatever happens to its path.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl Folder {
    /// Opens a folder.
    pub fn open(path: &[u8]) -> Result<Folder, FileError> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        with_path(path, |path| open_at(libc::AT_FDCWD, path, flags, 0)).map(Folder)
    }

    /// Calls `each` with the name of every entry but `.` and `..`, in no order.
    pub fn list(&self, mut each: impl FnMut(&CStr)) -> Result<(), FileError> {
        // A description of its own, so that the position is at the start and two lists do not meet.
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let folder = open_at(self.0.as_raw_fd(), c".", flags, 0)?;
        let mut buffer = Entries([0; 4096]);
        loop {
            let len = buffer.fill(folder.as_raw_fd())?;
            if len == 0 {
                return Ok(());
            }
            buffer.each(len, |name| {
                if name != c"." && name != c".." {
                    each(name);
                }
            });
        }
    }

    /// What is under a name; links are followed.
    pub fn stat(&self, name: &CStr) -> Result<Stat, FileError> {
        // SAFETY: zero bytes are a stat; the pointers are to one and to a terminated name.
        unsafe {
            let mut stat: libc::stat = core::mem::zeroed();
            check(libc::fstatat(self.0.as_raw_fd(), name.as_ptr(), &raw mut stat, 0))?;
            Ok(Stat::of(&stat))
        }
    }

    /// Reads a whole file; what is in `buffer` of it.
    pub fn read<'b>(&self, name: &CStr, buffer: &'b mut [u8]) -> Result<&'b [u8], FileError> {
        read_at(self.0.as_raw_fd(), name, buffer).map(|len| &buffer[..len])
    }

    /// Removes a file.
    pub fn remove(&self, name: &CStr) -> Result<(), FileError> {
        // SAFETY: the name is terminated.
        check(unsafe { libc::unlinkat(self.0.as_raw_fd(), name.as_ptr(), 0) }).map(|_| ())
    }

    /// Begins to replace `name` by a new file (mode 0600), piece by piece; nothing is seen under
    /// the name before [`Replacement::commit`]. One at a time per name.
    pub fn replace<'f>(&'f self, name: &'f CStr) -> Result<Replacement<'f>, FileError> {
        let mut temporary = [0u8; 260];
        let bytes = name.to_bytes();
        let end = 1 + bytes.len() + 4;
        temporary.get_mut(..end + 1).ok_or(FileError::Path)?;
        temporary[0] = b'.';
        temporary[1..=bytes.len()].copy_from_slice(bytes);
        temporary[end - 4..end].copy_from_slice(b".new");
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_NOFOLLOW;
        let temporary_name = CStr::from_bytes_until_nul(&temporary).map_err(|_| FileError::Path)?;
        let file = open_at(self.0.as_raw_fd(), temporary_name, flags, 0o600)?;
        // A file left behind by an older version might have another mode.
        // SAFETY: the descriptor is open.
        check(unsafe { libc::fchmod(file.as_raw_fd(), 0o600) })?;
        Ok(Replacement { folder: self, name, temporary, file, committed: false })
    }

    /// Replaces a file as a whole: after a crash there is the old one or the new one.
    pub fn write(&self, name: &CStr, bytes: &[u8]) -> Result<(), FileError> {
        let mut replacement = self.replace(name)?;
        replacement.write(bytes)?;
        replacement.commit()
    }
}

/// A file that is being replaced. Dropped without commit, it leaves the old one as it was.
#[derive(Debug)]
pub struct Replacement<'f> {
    folder: &'f Folder,
    name: &'f CStr,
    temporary: [u8; 260],
    file: OwnedFd,
    committed: bool,
}

impl Replacement<'_> {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        write_all(self.file.as_raw_fd(), bytes)
    }

    /// Flushes the file, puts it in place, flushes the folder.
    pub fn commit(mut self) -> Result<(), FileError> {
        let folder = self.folder.0.as_raw_fd();
        // SAFETY: open descriptors and terminated names.
        unsafe {
            check(libc::fsync(self.file.as_raw_fd()))?;
            let from = self.temporary.as_ptr().cast();
            check(libc::renameat(folder, from, folder, self.name.as_ptr()))?;
            self.committed = true;
            check(libc::fsync(folder))?;
        }
        Ok(())
    }
}

impl Drop for Replacement<'_> {
    fn drop(&mut self) {
        if !self.committed
            && let Ok(temporary) = CStr::from_bytes_until_nul(&self.temporary)
        {
            // What cannot be removed is overwritten by the next attempt.
            let _ = self.folder.remove(temporary);
        }
    }
}

/// The kernel's list of entries: struct linux_dirent64, one after the other (getdents64(2)).
#[repr(C, align(8))]
struct Entries([u8; 4096]);

impl Entries {
    fn fill(&mut self, folder: RawFd) -> Result<usize, FileError> {
        let (pointer, len) = (self.0.as_mut_ptr(), self.0.len());
        // SAFETY: pointer and length are those of our array.
        let n = unsafe { libc::syscall(libc::SYS_getdents64, folder, pointer, len) };
        usize::try_from(n).map_err(|_| FileError::Os(errno()))
    }

    fn each(&self, len: usize, mut each: impl FnMut(&CStr)) {
        let mut rest = &self.0[..len];
        // u64 inode, u64 offset, u16 length of this entry, u8 type, then the terminated name.
        while let Some((head, _)) = rest.split_at_checked(19) {
            let entry_len = usize::from(u16::from_ne_bytes([head[16], head[17]]));
            let (entry, after) = rest.split_at(entry_len);
            if let Ok(name) = CStr::from_bytes_until_nul(&entry[19..]) {
                each(name);
            }
            rest = after;
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "nothing is sealed here")]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;
    use std::string::{String, ToString};
    use std::vec::Vec;
    use std::{format, fs, vec};

    struct Temp(PathBuf);

    impl Temp {
        fn new(name: &str) -> Temp {
            let path = std::env::temp_dir().join(format!("serval-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();

            Temp(path)
        }
        fn bytes(&self, name: &str) -> Vec<u8> {
            self.0.join(name).to_str().unwrap().as_bytes().to_vec()
        }
        fn folder(&self) -> Folder {
            Folder::open(&self.bytes("")).unwrap()
        }
    }

    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn read_at_max_and_one_more() {
        let temp = Temp::new("read");
        fs::write(temp.0.join("a"), b"12345").unwrap();
        let mut buffer = [0; 5];
        assert_eq!(read(&temp.bytes("a"), &mut buffer), Ok(&b"12345"[..]));
        let large = Err(FileError::TooLarge { bytes: 5 });
        assert_eq!(read(&temp.bytes("a"), &mut buffer[..4]), large);
        assert!(read(&temp.bytes("b"), &mut buffer).unwrap_err().is_missing());
        assert_eq!(read(&temp.bytes(""), &mut buffer), Err(FileError::NotAFile));
        assert_eq!(read(b"a\0b", &mut buffer), Err(FileError::Path));
        assert_eq!(read(&[b'a'; 5000], &mut buffer), Err(FileError::Path));
    }

    #[test]
    fn a_fifo_does_not_block() {
        let temp = Temp::new("fifo");
        let mut path = temp.bytes("fifo");
        path.push(0);
        let path = CStr::from_bytes_with_nul(&path).unwrap();
        // SAFETY: the path is terminated.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        assert_eq!(read(path.to_bytes(), &mut [0; 5]), Err(FileError::NotAFile));
    }

    #[test]
    fn lists_every_name_once_over_several_buffers() {
        let temp = Temp::new("list");
        let long = "x".repeat(200);
        let mut expected: Vec<String> = (0..100).map(|i| format!("{i:03}{long}")).collect();
        expected.iter().for_each(|name| fs::write(temp.0.join(name), b"").unwrap());
        let folder = temp.folder();
        for _ in 0..2 {
            let mut names: Vec<String> = vec![];
            folder.list(|name| names.push(name.to_str().unwrap().to_string())).unwrap();
            names.sort();
            expected.sort();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn follows_links_as_mounted_config_maps_have_them() {
        let temp = Temp::new("links");
        fs::create_dir(temp.0.join("..1")).unwrap();
        fs::write(temp.0.join("..1/a.yaml"), b"one").unwrap();
        symlink("..1", temp.0.join("..data")).unwrap();
        symlink("..data/a.yaml", temp.0.join("a.yaml")).unwrap();
        let (folder, mut buffer) = (temp.folder(), [0; 9]);
        assert_eq!(folder.read(c"a.yaml", &mut buffer), Ok(&b"one"[..]));
        let before = folder.stat(c"a.yaml").unwrap();
        assert!(before.is_file && before.bytes == 3 && before.modified_ns > 0);
        assert!(folder.stat(c"..data").unwrap().is_folder);
        fs::create_dir(temp.0.join("..2")).unwrap();
        fs::write(temp.0.join("..2/a.yaml"), b"two").unwrap();
        symlink("..2", temp.0.join("..tmp")).unwrap();
        fs::rename(temp.0.join("..tmp"), temp.0.join("..data")).unwrap();
        assert_eq!(folder.read(c"a.yaml", &mut buffer), Ok(&b"two"[..]));
        assert_ne!(folder.stat(c"a.yaml").unwrap().inode, before.inode);
        assert!(folder.stat(c"b").unwrap_err().is_missing());
    }

    #[test]
    fn replaces_whole_or_not_at_all() {
        let temp = Temp::new("write");
        let folder = temp.folder();
        folder.write(c"state", b"first").unwrap();
        let mode = fs::metadata(temp.0.join("state")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let mut replacement = folder.replace(c"state").unwrap();
        replacement.write(b"sec").unwrap();
        assert_eq!(fs::read_to_string(temp.0.join("state")).unwrap(), "first");
        drop(replacement);
        let mut names = vec![];
        folder.list(|name| names.push(name.to_bytes().to_vec())).unwrap();
        assert_eq!(names, [b"state"]);
        // What a crash left behind, with another mode, does not stand in the way.
        fs::write(temp.0.join(".state.new"), b"torn, and longer than the next").unwrap();
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(temp.0.join(".state.new"), open).unwrap();
        folder.write(c"state", b"second").unwrap();
        assert_eq!(fs::read_to_string(temp.0.join("state")).unwrap(), "second");
        let mode = fs::metadata(temp.0.join("state")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn errors_leave_the_old_file() {
        let temp = Temp::new("full");
        let folder = temp.folder();
        folder.write(c"state", b"good").unwrap();
        // A folder in the way of the temporary name stands for a disk that refuses.
        fs::create_dir(temp.0.join(".state.new")).unwrap();
        assert_eq!(folder.write(c"state", b"bad"), Err(FileError::Os(libc::EISDIR)));
        assert_eq!(fs::read_to_string(temp.0.join("state")).unwrap(), "good");
        fs::remove_dir_all(&temp.0).unwrap();
        assert!(folder.write(c"state", b"bad").unwrap_err().is_missing());
    }
}
