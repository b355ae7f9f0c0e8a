//! What tch does not reach in libtorch, by way of a small C++ file: ATen's CPU capability, the library's
//! version and place, the opening of its CUDA half, and the allocator that it runs on (mimalloc). Follows
//! ATen/Version.h, dlopen(3) and mimalloc.h. It knows no tensor and no sdrest type; every function is safe to call
//! from any thread.

// Its malloc(3) and the rest of the family take the place of the C library's in whatever links this, libtorch
// included, which asks for each tensor at an alignment that glibc has no quick answer to.
use libmimalloc_sys as _;
use std::{
    ffi::{CStr, CString, c_char, c_int},
    path::{Path, PathBuf},
};

#[expect(unsafe_code, reason = "the functions of shim.cpp")]
unsafe extern "C" {
    fn sdrest_keep_freed_memory();
    fn sdrest_return_freed_memory();
    fn sdrest_cpu_capability(out: *mut c_char, capacity: usize);
    fn sdrest_torch_version(out: *mut c_char, capacity: usize);
    fn sdrest_libtorch_path(out: *mut c_char, capacity: usize);
    fn sdrest_open_library(path: *const c_char, out: *mut c_char, capacity: usize) -> c_int;
}

/// Longer texts are cut: PATH_MAX of linux/limits.h.
const CAPACITY: usize = 4096;

/// Runs `fill` on a buffer of [`CAPACITY`] bytes and reads the NUL-terminated text that it left there.
fn read_text(fill: impl FnOnce(*mut c_char, usize)) -> String {
    let mut buffer = [0_u8; CAPACITY];
    fill(buffer.as_mut_ptr().cast(), buffer.len());
    CStr::from_bytes_until_nul(&buffer)
        .map(|text| text.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// From now on freed memory stays with the process for ten seconds, so that the next step finds its buffers again
/// and the kernel need not fill fresh pages with zeros. For the beginning of `main`.
#[expect(unsafe_code, reason = "the call into shim.cpp")]
pub fn keep_freed_memory() {
    // SAFETY: an option of mimalloc may be set at any time; the function throws nothing.
    unsafe { sdrest_keep_freed_memory() }
}

/// Returns freed memory to the kernel, once: for when a model has left memory.
#[expect(unsafe_code, reason = "the call into shim.cpp")]
pub fn return_freed_memory() {
    // SAFETY: mi_collect may be called from any thread; the function throws nothing.
    unsafe { sdrest_return_freed_memory() }
}

/// Which kernels ATen chose for this CPU (`AVX512`, `AVX2`, `DEFAULT`, …). It is decided at the first use of
/// any kernel, from /proc/cpuinfo and cpuid, and stays.
#[expect(unsafe_code, reason = "the call into shim.cpp")]
pub fn cpu_capability() -> String {
    // SAFETY: the function writes at most `capacity` bytes to `out`, ends them with NUL and throws nothing.
    read_text(|out, capacity| unsafe { sdrest_cpu_capability(out, capacity) })
}

/// The version of libtorch, such as `2.11.0`.
#[expect(unsafe_code, reason = "the call into shim.cpp")]
pub fn torch_version() -> String {
    // SAFETY: as in `cpu_capability`.
    read_text(|out, capacity| unsafe { sdrest_torch_version(out, capacity) })
}

/// The file of `libtorch_cpu.so` that this process runs on.
#[expect(unsafe_code, reason = "the call into shim.cpp")]
pub fn libtorch_path() -> Option<PathBuf> {
    // SAFETY: as in `cpu_capability`.
    let text = read_text(|out, capacity| unsafe { sdrest_libtorch_path(out, capacity) });
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// Loads a shared library for the rest of the process's life (RTLD_NOW, RTLD_GLOBAL). The library's own
/// constructors run, so the path must be one that the administrator chose.
#[expect(unsafe_code, reason = "the call into shim.cpp")]
pub fn open_library(path: &Path) -> Result<(), String> {
    let name = CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| "the path holds a NUL".to_owned())?;
    let mut failed = 0;
    let words = read_text(|out, capacity| {
        // SAFETY: `name` is NUL-terminated and lives until the call is over; `out` as in `cpu_capability`.
        failed = unsafe { sdrest_open_library(name.as_ptr(), out, capacity) };
    });
    if failed == 0 { Ok(()) } else { Err(words) }
}
