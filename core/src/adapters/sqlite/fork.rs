//! Which files this process has open, for the day that it is forked.
//!
//! SQLite keeps the locks that a process holds on a file in one place per process. A fork inherits that place but not the locks: whoever
//! opens the file there believes to hold what only the parent holds, and other processes then remove the log under it. SQLite's own locks in
//! memory may be held at the fork, too, by a thread that does not exist in the child, which would wait for ever, whatever file it opens. So
//! the child of a process that had a file open must not open any. Source: "How to corrupt an SQLite database file", section 2.6. It is about the process as a whole,
//! hence the one static variable.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use parking_lot::Mutex;

use crate::ports::StoreError;

static OPEN: Mutex<Vec<(PathBuf, u32)>> = Mutex::new(Vec::new());

/// The list may have been locked at the fork, by a thread that does not exist here: then nobody will ever let go of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// A file that this process has open; dropped when the last connection of its store is closed.
#[derive(Debug)]
pub(super) struct OpenFile(PathBuf);

impl OpenFile {
    /// Notes that `path` is open from now on.
    ///
    /// # Errors
    /// [`StoreError::CannotOpen`] if the process that this one was forked from had a file open.
    pub(super) fn note(path: &Path) -> Result<Self, StoreError> {
        let path = real(path);
        let process = process::id();
        match OPEN.try_lock_for(PATIENCE) {
            Some(mut open) if !inherited(&open, process) => {
                open.push((path.clone(), process));
                Ok(Self(path))
            }
            _ => Err(StoreError::CannotOpen {
                path: path.display().to_string(),
                reason: "a store was open when this process was forked: open stores after the fork, or in a process that is started afresh"
                    .into(),
            }),
        }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let process = process::id();
        if let Some(mut open) = OPEN.try_lock_for(PATIENCE)
            && let Some(n) = open
                .iter()
                .position(|(p, id)| *p == self.0 && *id == process)
        {
            open.swap_remove(n);
        }
    }
}

fn inherited(open: &[(PathBuf, u32)], process: u32) -> bool {
    open.iter().any(|(_, id)| *id != process)
}

/// The path with links followed, also of a file that is not there yet.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path)
        .or_else(|e| match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) => Ok(fs::canonicalize(folder)?.join(name)),
            _ => Err(e),
        })
        .unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_process_image_had_open_is_inherited() {
        let open = [(PathBuf::from("/a.db"), 7)];

        assert!(inherited(&open, 8));
        assert!(!inherited(&open, 7));
        assert!(!inherited(&[], 8));
    }

    #[test]
    fn a_closed_file_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = real(&folder.path().join("shop.db"));
        let noted = || OPEN.lock().iter().any(|(p, _)| *p == path);

        let first = OpenFile::note(&path).unwrap();
        let second = OpenFile::note(&path).unwrap();
        drop(first);
        assert!(noted());
        drop(second);

        assert!(!noted());
    }
}
