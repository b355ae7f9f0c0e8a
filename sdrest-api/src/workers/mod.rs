//! The links to the GPU workers: connect and come back, know their models, hand them jobs and bring home what
//! they drew. Must never import axum or a route, and never trusts what a worker says about who owns a job:
//! a worker knows no owners.

mod board;
mod connection;
mod desk;
mod dispatcher;
mod feeder;
mod outcome;
mod pool;
mod reader;
mod reports;
mod settings;

pub use pool::Workers;
pub use reports::WorkerReport;
pub use settings::WorkerSettings;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
