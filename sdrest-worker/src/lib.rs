//! The GPU worker as a library, so that its two programs (`sdrest-worker`, which serves, and
//! `sdrest-probe`, which shows single parts to the tests) are made of the same code.

pub mod cli;
pub mod config;
pub mod device;
pub mod engine;
pub mod loaders;
pub mod models;
pub mod pipelines;
pub mod prompt;
pub mod ready;
pub mod sandbox;
pub mod schedulers;
pub mod server;
