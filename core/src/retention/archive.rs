//! A file of recorded events, one JSON object in each line.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::PathBuf,
};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    clock::Timestamp,
    ports::{RecordedEvent, StoreError},
};

/// Bytes that are looked at for the end of a line, at once.
const BLOCK: u64 = 64 * 1024;

/// What every line begins with.
const BEGIN: &[u8] = b"{\"position\":";

/// A line: the names are those of the stores' own views of the log.
#[derive(Serialize)]
struct Line<'a> {
    position: u64,
    stream: &'a str,
    revision: u64,
    event_id: uuid::Uuid,
    #[serde(rename = "type")]
    type_name: &'a str,
    version: u32,
    occurred_at: Timestamp,
    data: &'a RawValue,
    metadata: &'a RawValue,
}

/// The file, open for appending and locked: of two that write at once, one would delete what the other one's lines have overwritten.
pub(super) struct Archive {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Archive {
    /// Opens the file, makes it if there is none, and takes a last line away that was not finished.
    pub(super) fn open(path: PathBuf) -> Result<Self, StoreError> {
        let open = || -> io::Result<Option<File>> {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let len = file.metadata()?.len();
            let end = end_of_lines(&mut file, len)?;
            let last = end_of_lines(&mut file, end.saturating_sub(1))?;
            if !is_ours(&mut file, end)? || (end > 0 && begin(&mut file, last)? != BEGIN) {
                return Err(io::Error::other("its last line is not one of an archive"));
            }
            file.set_len(end)?;
            file.seek(SeekFrom::End(0))?;
            file.sync_all()?;
            // The name of the file is in its folder, which has to be on the disk too.
            let folder = path.parent().filter(|f| !f.as_os_str().is_empty());
            #[cfg(unix)]
            File::open(folder.unwrap_or(std::path::Path::new(".")))?.sync_all()?;
            #[cfg(not(unix))]
            let _ = folder;
            Ok(Some(file))
        };
        match open() {
            Ok(Some(file)) => Ok(Self {
                file: BufWriter::new(file),
                path,
            }),
            Ok(None) => Err(StoreError::Locked {
                path: path.display().to_string(),
            }),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// Appends an event. It is not safe before [`Archive::sync`].
    pub(super) fn append(&mut self, event: &RecordedEvent) -> Result<(), StoreError> {
        let raw = |json| -> Result<&RawValue, StoreError> {
            serde_json::from_slice(json).map_err(|error| StoreError::Corrupt {
                what: format!("event {} of {}", event.revision, event.stream),
                reason: error.to_string(),
            })
        };
        let line = Line {
            position: event.position.0,
            stream: &event.stream,
            revision: event.revision,
            event_id: event.id,
            type_name: &event.type_name,
            version: event.version,
            occurred_at: event.occurred_at,
            data: raw(&event.data)?,
            metadata: raw(&event.metadata)?,
        };
        let written = serde_json::to_writer(&mut self.file, &line)
            .map_err(io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|error| failed(&self.path, &error))
    }

    /// Where the next line begins.
    pub(super) fn end(&mut self) -> Result<u64, StoreError> {
        let end = self.file.stream_position();
        end.map_err(|error| failed(&self.path, &error))
    }

    /// Takes away what was appended from `end` on.
    pub(super) fn cut(&mut self, end: u64) -> Result<(), StoreError> {
        let cut = self
            .file
            .seek(SeekFrom::Start(end))
            .and_then(|_| self.file.get_ref().set_len(end));
        cut.map_err(|error| failed(&self.path, &error))
    }

    /// Makes what was appended survive a power cut.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        let synced = self.file.flush();
        let synced = synced.and_then(|()| self.file.get_ref().sync_data());
        synced.map_err(|error| failed(&self.path, &error))
    }
}

/// Where the last whole line before `end` ends.
fn end_of_lines(file: &mut File, mut end: u64) -> io::Result<u64> {
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        Read::by_ref(file)
            .take(end - start)
            .read_to_end(&mut block)?;
        if let Some(place) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + place as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Whether what stands from `end` on may be the beginning of a line of ours: nothing else is taken away.
fn is_ours(file: &mut File, end: u64) -> io::Result<bool> {
    Ok(BEGIN.starts_with(&begin(file, end)?))
}

/// As much of what stands from `place` on as all lines of ours have in common.
fn begin(file: &mut File, place: u64) -> io::Result<Vec<u8>> {
    let mut begin = Vec::new();
    file.seek(SeekFrom::Start(place))?;
    Read::by_ref(file)
        .take(BEGIN.len() as u64)
        .read_to_end(&mut begin)?;
    Ok(begin)
}

fn failed(path: &std::path::Path, error: &io::Error) -> StoreError {
    let path = path.display().to_string();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull { path },
        _ => StoreError::CannotOpen {
            path,
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn opened(text: &str) -> (Result<(), StoreError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.jsonl");
        std::fs::write(&path, text).unwrap();
        let opened = Archive::open(path.clone()).map(drop);
        (opened, std::fs::read_to_string(path).unwrap())
    }

    #[test]
    fn a_file_that_is_no_archive_is_left_alone() {
        for text in [
            "my notes",
            "my notes\n",
            "{\"position\":1}\nmy notes\n",
            "\n",
            "{\"a\":1}",
            "{\"position\":1}\nmy notes",
            "{\"positions",
        ] {
            let (opened, left) = opened(text);

            assert!(
                matches!(opened, Err(StoreError::CannotOpen { .. })),
                "{text}"
            );
            assert_eq!(left, text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_line_that_was_not_finished_is_taken_away(
            lines in 0..3_usize, long in 0..150_000_usize, unfinished in 0..150_000_usize,
        ) {
            let line = format!("{{\"position\":1,\"data\":\"{}\"}}", "x".repeat(long));
            let whole = format!("{line}\n").repeat(lines);
            let cut = &line[..unfinished.min(line.len())];

            let (opened, left) = opened(&format!("{whole}{cut}"));

            prop_assert!(opened.is_ok());
            prop_assert!(left == whole, "{} of {} bytes", left.len(), whole.len());
        }
    }
}
