//! The front end as a library, so that its rooms can be tested from outside: jobs and their store, the link
//! to the workers, pictures at rest, and above them the HTTP routes. Nothing here holds a signing key or
//! reads a model file.
#![forbid(unsafe_code)]

pub mod app;
pub mod auth;
pub mod authd;
pub mod cli;
pub mod config;
pub mod edge;
pub mod error;
pub mod exposure;
pub mod images;
pub mod jobs;
pub mod listener;
pub mod names;
pub mod openapi;
pub mod router;
pub mod routes;
pub mod telemetry;
pub mod workers;
