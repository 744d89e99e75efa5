//! A folder of manifests that goes with its test.

#![allow(dead_code, reason = "each test binary needs some of it")]

use std::fs;
use std::path::PathBuf;

/// The folder.
pub struct Folder(pub PathBuf);

impl Folder {
    /// An empty one; tests of one process give different names.
    pub fn new(name: &str) -> Folder {
        let name = format!("serval-test-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// A file's text.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// As an editor does it: a new file in the old one's place.
    pub fn write(&self, name: &str, text: &str) {
        let beside = self.0.join(format!(".{name}.new"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.0.join(name)).unwrap();
    }

    /// As a flag has it.
    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
