use super::Process;
use crate::cli::WorkerName;
use crate::exit::Done;
pub(super) async fn add(_process: &mut Process, _name: WorkerName) -> Done {
    Ok(())
}
