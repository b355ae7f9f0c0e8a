// The few functions of libtorch that tch does not reach, with C linkage. No exception may leave a function
// of this file: the caller is Rust.
#include <ATen/Version.h>
#include <dlfcn.h>
#include <mimalloc.h>
#include <torch/headeronly/version.h>

#include <cstring>
#include <string>

namespace {

void copy_text(const std::string& text, char* out, size_t capacity) {
  if (capacity == 0) return;
  const size_t length = text.size() < capacity - 1 ? text.size() : capacity - 1;
  std::memcpy(out, text.data(), length);
  out[length] = '\0';
}

}  // namespace

extern "C" {

// Lets the allocator keep what was freed for ten seconds: the buffers of a step are those of the next.
void sdrest_keep_freed_memory() noexcept { mi_option_set(mi_option_purge_delay, 10000); }

// Returns it to the kernel after all, for when a model has left memory.
void sdrest_return_freed_memory() noexcept { mi_collect(true); }

// What ATen's kernels were chosen for ("AVX2", "AVX512", "DEFAULT"), NUL-terminated.
void sdrest_cpu_capability(char* out, size_t capacity) noexcept {
  try {
    copy_text(at::get_cpu_capability(), out, capacity);
  } catch (...) {
    copy_text("", out, capacity);
  }
}

// The version of the headers, which is the version of the library that is linked.
void sdrest_torch_version(char* out, size_t capacity) noexcept {
  try {
    copy_text(TORCH_VERSION, out, capacity);
  } catch (...) {
    copy_text("", out, capacity);
  }
}

// The file that holds ATen's CPU kernels in this process, as the dynamic linker found it; empty if unknown.
void sdrest_libtorch_path(char* out, size_t capacity) noexcept {
  Dl_info info;
  try {
    const bool known = dladdr(reinterpret_cast<const void*>(&at::get_cpu_capability), &info) != 0;
    copy_text(known && info.dli_fname != nullptr ? info.dli_fname : "", out, capacity);
  } catch (...) {
    copy_text("", out, capacity);
  }
}

// Opens a library for good, with its symbols visible to all. Returns 0, or 1 with the linker's words in `out`.
int sdrest_open_library(const char* path, char* out, size_t capacity) noexcept {
  if (dlopen(path, RTLD_NOW | RTLD_GLOBAL) != nullptr) return 0;
  const char* words = dlerror();
  try {
    copy_text(words != nullptr ? words : "unknown error", out, capacity);
  } catch (...) {
    if (capacity > 0) out[0] = '\0';
  }
  return 1;
}
}
