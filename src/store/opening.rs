//! From a path to a database.

use std::path::Path;

use crate::core::time::Now;

use super::engine::Engine;
use super::{Before, StoreError, schema};

pub fn open(
    _path: Option<&Path>,
    _now: Now,
    boot_id: &str,
) -> Result<(Engine, Vec<String>, Option<Before>), StoreError> {
    let db = schema::memory().map_err(StoreError::Memory)?;
    Ok((Engine::in_memory(db, boot_id), Vec::new(), None))
}

pub fn view(path: &Path) -> Result<Engine, StoreError> {
    Err(StoreError::Absent { path: path.to_path_buf() })
}
