//! `ssecast demo`
/// Runs the demo.
pub(crate) fn run(_listen: &str) -> Result<(), String> {
    Err("not yet".to_owned())
}
