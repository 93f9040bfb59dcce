//! What the companies hold, in a file, so that a simulator that is started again goes on as it was: with its partners, its
//! ids and the writes that were put off. Whoever got an answer finds it in the file: it is written before the answer leaves,
//! once for all that wait for it.

use std::fs::{File, TryLockError};
use std::io::{self, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::shared::Shared;
use super::world::Snapshot;

/// Longest file that is read, in bytes; `MAX_PARTNERS` of the usual length are below it.
const LONGEST: u64 = 1024 * 1024 * 1024;

/// The file, kept from other simulators as long as this lives.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    /// How many changes of the world are in the file.
    written: tokio::sync::Mutex<u64>,
    _lock: File,
}

impl Kept {
    /// Takes the file, and reads what is in it; `None`: there is none yet.
    pub(super) fn open(path: &Path) -> Result<(Self, Option<Snapshot>), Error> {
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

    /// Comes back when every change there has been is in the file. A file that cannot be written is told, and holds up
    /// nobody: the partner that is simulated has no such file.
    pub(super) async fn keep(&self, shared: &Arc<Shared>) {
        let asked = shared.world().changes();
        let mut written = self.written.lock().await;
        if *written >= asked {
            return;
        }
        let path = self.path.clone();
        let shared = Arc::clone(shared);
        let saved = tokio::task::spawn_blocking(move || {
            let (changes, snapshot) = {
                let world = shared.world();
                (world.changes(), world.snapshot())
            };
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

fn read(file: File) -> io::Result<Snapshot> {
    Ok(serde_json::from_reader(BufReader::new(file.take(LONGEST)))?)
}

/// A reader meets the file of before or the new one, never a part.
fn write(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let new = beside(path, "new");
    let text = serde_json::to_vec(snapshot)?;
    let mut file = File::create(&new)?;
    file.write_all(&text)?;
    file.sync_data()?;
    std::fs::rename(&new, path)
}
