//! The computing device: thread counts, the CUDA half of libtorch, the first kernels. All of it happens before
//! the sandbox closes, because it reads /proc and /sys, opens device nodes and starts a driver.
//!
//! libtorch is linked on its CPU half; with a CUDA device, `libtorch_cuda.so` from beside it is opened first
//! thing and registers itself. Without /proc/cpuinfo, ATen silently chooses its slowest kernels, which give
//! other bytes; so the choice is made here, by computing something of each kind, and reported.

use crate::cli::DeviceChoice;
use std::{
    env, fs, io, os::unix::process::CommandExt, path::PathBuf, process::Command, thread,
    time::Duration,
};
use tch::{Cuda, Device, Kind, TchError, Tensor};
use thiserror::Error;

/// Why the device cannot be used.
#[derive(Debug, Error)]
pub enum DeviceError {
    #[error("`device` is {choice}, but libtorch's CUDA half is not at {}", path.display())]
    NoCudaLibrary { choice: DeviceChoice, path: PathBuf },
    #[error("cannot open {}: {message}", path.display())]
    CudaLibrary { path: PathBuf, message: String },
    #[error(
        "`device` must be one of the {found} CUDA devices of this machine (from cuda:0), got {choice}"
    )]
    NoSuchDevice { choice: DeviceChoice, found: i64 },
    #[error("cannot find the file of libtorch_cpu.so")]
    NoLibtorch,
    #[error("the first {what} failed: {error}")]
    FirstKernel { what: &'static str, error: TchError },
    #[error("the first sum on the device came back wrong")]
    WrongAnswer,
    #[error("the first kernels panicked")]
    Panicked,
    #[error("cannot start a thread for the first kernels: {0}")]
    Thread(io::Error),
}

/// A device that has computed something, and what decides the bytes that it computes.
#[derive(Clone, Debug)]
pub struct ReadyDevice {
    pub device: Device,
    /// What weights and latents are kept in.
    pub kind: Kind,
    pub threads: u16,
    /// ATen's CPU capability as it was decided outside of the sandbox.
    pub cpu_capability: String,
}

impl ReadyDevice {
    /// The name of `kind`, as the profile has it.
    pub fn dtype(&self) -> &'static str {
        match self.kind {
            Kind::Half => "float16",
            Kind::BFloat16 => "bfloat16",
            _ => "float32",
        }
    }
}

/// How libgomp's threads wait for each other: asleep. It reads this before `main`.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";

/// Starts this program over, in this same process, with libgomp told to wait asleep; does nothing where it has
/// been told how to wait already. By default its threads spin, and where something else wants the same cores,
/// as the rest of sdrest does, a step takes ten times as long and more. The bytes are the same either way.
pub fn wait_asleep() -> io::Result<()> {
    if env::var_os(WAIT_POLICY).is_some() {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let mut again = Command::new(env::current_exe()?);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // Comes back only with an error.
    Err(again.args(arguments).env(WAIT_POLICY, "passive").exec())
}

/// Prepares the device. Called once, before any other thread exists.
pub fn prepare(choice: DeviceChoice, threads: u16) -> Result<ReadyDevice, DeviceError> {
    // libtorch keeps a second pool, for kernels of mobile models that are not used here, as large as the first
    // call says. Its threads would never end, and would live outside of the sandbox.
    set_threads(1);
    tch::set_num_interop_threads(1);
    let (device, kind) = match choice {
        DeviceChoice::Cpu => (Device::Cpu, Kind::Float),
        DeviceChoice::Cuda(number) => (open_cuda(choice, number)?, Kind::Half),
    };
    first_kernels(device, kind, threads)?;
    // Until the sandbox is closed this thread computes alone, if at all: a helper that is born now would
    // live outside. The engine thread sets its own count.
    set_threads(1);
    wait_for_one_thread();
    Ok(ReadyDevice { device, kind, threads, cpu_capability: torch_shim::cpu_capability() })
}

/// Sets how many threads one computation has. libgomp keeps that number for each thread that starts
/// computations, so every such thread calls this first.
pub fn set_threads(threads: u16) {
    tch::set_num_threads(threads.into());
}

fn open_cuda(choice: DeviceChoice, number: u8) -> Result<Device, DeviceError> {
    let path = torch_shim::libtorch_path()
        .ok_or(DeviceError::NoLibtorch)?
        .with_file_name("libtorch_cuda.so");
    if !path.is_file() {
        return Err(DeviceError::NoCudaLibrary { choice, path });
    }
    torch_shim::open_library(&path)
        .map_err(|message| DeviceError::CudaLibrary { path, message })?;
    let found = Cuda::device_count();
    if i64::from(number) >= found {
        return Err(DeviceError::NoSuchDevice { choice, found });
    }
    Ok(Device::Cuda(number.into()))
}

/// Computes something of each kind on a thread that ends: libgomp's threads end with the thread that they
/// served, so that the process has one thread again when the sandbox closes around it.
fn first_kernels(device: Device, kind: Kind, threads: u16) -> Result<(), DeviceError> {
    let first = thread::Builder::new().name("first-kernels".to_owned()).spawn(move || {
        set_threads(threads);
        let kinds = if kind == Kind::Float { vec![kind] } else { vec![Kind::Float, kind] };
        kinds.into_iter().try_for_each(|kind| compute_something(device, kind))
    });
    first.map_err(DeviceError::Thread)?.join().map_err(|_| DeviceError::Panicked)?
}

fn compute_something(device: Device, kind: Kind) -> Result<(), DeviceError> {
    let options = (kind, device);
    let failed = |what| move |error| DeviceError::FirstKernel { what, error };
    let picture = Tensor::f_ones([2, 8, 32, 32], options).map_err(failed("tensor"))?;
    let kernel = Tensor::f_ones([16, 8, 3, 3], options).map_err(failed("tensor"))?;
    let convolved = picture
        .f_conv2d::<Tensor>(&kernel, None, [1, 1], [1, 1], [1, 1], 1)
        .map_err(failed("convolution"))?;
    let rows = convolved
        .f_view([2, 16, 1024])
        .and_then(|it| it.f_transpose(1, 2))
        .map_err(failed("view"))?;
    let weight = Tensor::f_ones([64, 16], options).map_err(failed("tensor"))?;
    let projected = rows.f_linear::<Tensor>(&weight, None).map_err(failed("linear layer"))?;
    let heads = projected
        .f_view([2, 1024, 4, 16])
        .and_then(|it| it.f_transpose(1, 2))
        .map_err(failed("view"))?;
    let attended = Tensor::f_scaled_dot_product_attention::<Tensor>(
        &heads, &heads, &heads, None, 0.0, false, None, false,
    )
    .map_err(failed("attention"))?;
    attended.f_sum(Kind::Float).and_then(|sum| sum.f_double_value(&[])).map_err(failed("sum"))?;
    cross_over(options)
}

/// What a request takes over to the device and back: token ids, which pick rows of a table; noise for a step; a
/// noise level without dimensions, which stays on the CPU; pixels.
fn cross_over((kind, device): (Kind, Device)) -> Result<(), DeviceError> {
    let failed = |what| move |error| DeviceError::FirstKernel { what, error };
    let table = Tensor::f_ones([8, 16], (kind, device)).map_err(failed("tensor"))?;
    let ids = Tensor::f_from_slice(&[7_i64, 0]).and_then(|ids| ids.f_to_device(device));
    let ids = ids.map_err(failed("copy to the device"))?;
    let sample =
        Tensor::f_embedding(&table, &ids, -1, false, false).map_err(failed("embedding"))?;
    let noise = Tensor::f_ones([2, 16], (Kind::Float, Device::Cpu))
        .and_then(|noise| noise.f_to_device(device))
        .map_err(failed("copy to the device"))?;
    let level = Tensor::f_ones([], (Kind::Float, Device::Cpu)).map_err(failed("tensor"))?;
    let noisy = noise
        .f_mul(&level)
        .and_then(|scaled| sample.f_add(&scaled))
        .map_err(failed("sum of sample and noise"))?;
    let mut pixels = [0_u8; 32];
    let read = noisy.f_to_device(Device::Cpu).and_then(|it| it.f_to_kind(Kind::Uint8));
    read.and_then(|it| it.f_contiguous())
        .and_then(|it| it.f_copy_data_u8(&mut pixels, 32))
        .map_err(failed("copy from the device"))?;
    // A device that answers something else must not draw.
    if pixels != [2; 32] {
        return Err(DeviceError::WrongAnswer);
    }
    Ok(())
}

/// Waits a little until the threads of the first kernels are gone. A driver's threads stay; the sandbox counts
/// and reports them.
fn wait_for_one_thread() {
    for _ in 0..200 {
        let threads = fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(1);
        if threads <= 1 {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_must_take_what_a_request_brings() {
        for kind in [Kind::Float, Kind::Half] {
            cross_over((kind, Device::Cpu)).unwrap();
        }
        // The tests run on libtorch's CPU half, to which this device is not there.
        assert!(matches!(
            cross_over((Kind::Half, Device::Cuda(0))),
            Err(DeviceError::FirstKernel { .. })
        ));
    }
}
