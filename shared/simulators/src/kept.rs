//! What the accounts hold, in a file, so that a simulator that is started again goes on as it was: with its records, its
//! ids and the writes that were put off. Whoever got an answer finds it in the file: it is written before the answer leaves,
//! once for all that wait for it.

use std::fs::{File, TryLockError};
use std::io::{self, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// Longest file that is read, in bytes; as many records as Metakocka's simulator holds are below it.
const LONGEST: u64 = 1024 * 1024 * 1024;

/// The file, kept from other simulators as long as this lives.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    /// How many changes of the world are in the file.
    written: tokio::sync::Mutex<u64>,
    _lock: File,
}

impl Kept {
    /// Takes the file, and reads what is in it; `None`: there is none yet.
    pub(crate) fn open<S: DeserializeOwned>(path: &Path) -> Result<(Self, Option<S>), Error> {
        let wrong = |error: io::Error| Error::State(path.to_owned(), error.to_string());
        let lock = File::create(beside(path, "lock")).map_err(wrong)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let why = "another simulator keeps its state there";
                return Err(Error::State(path.to_owned(), why.to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(wrong(error)),
        }
        let snapshot = match File::open(path) {
            Ok(file) => Some(read(file).map_err(wrong)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(wrong(error)),
        };
        let kept = Kept {
            path: path.to_owned(),
            written: tokio::sync::Mutex::new(0),
            _lock: lock,
        };
        Ok((kept, snapshot))
    }

    /// Comes back when the changes up to this one are in the file; `now` tells what there is, and how many changes led to it.
    /// A file that cannot be written is told, and holds up nobody: the system that is simulated has no such file.
    pub(crate) async fn keep<S: Serialize>(
        &self,
        asked: u64,
        now: impl FnOnce() -> (u64, S) + Send + 'static,
    ) {
        let mut written = self.written.lock().await;
        if *written >= asked {
            return;
        }
        let path = self.path.clone();
        let saved = tokio::task::spawn_blocking(move || {
            let (changes, snapshot) = now();
            write(&path, &snapshot).map(|()| changes)
        });
        match saved.await.map_err(io::Error::other).flatten() {
            Ok(changes) => *written = changes,
            Err(error) => {
                tracing::error!(%error, path = %self.path.display(), "the simulator's state cannot be kept");
            }
        }
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

fn read<S: DeserializeOwned>(file: File) -> io::Result<S> {
    Ok(serde_json::from_reader(BufReader::new(file.take(LONGEST)))?)
}

/// A reader meets the file of before or the new one, never a part.
fn write(path: &Path, snapshot: &impl Serialize) -> io::Result<()> {
    let new = beside(path, "new");
    let text = serde_json::to_vec(snapshot)?;
    let mut file = File::create(&new)?;
    file.write_all(&text)?;
    file.sync_data()?;
    std::fs::rename(&new, path)
}
