/* What a test binary built by guided.py needs of a runtime for LLVM's inline 8-bit counters (SanitizerCoverage in
 * clang's manual): it says where they are, in the environment, before main begins. guide.rs reads them through the
 * kernel, so that no test needs unsafe code. Never part of a program that is installed. */
#include <stdio.h>
#include <stdlib.h>

void __sanitizer_cov_8bit_counters_init(char *start, char *stop);

/* Called by a constructor in each object file, each time with the same bounds: the linker made one array of all. */
void __sanitizer_cov_8bit_counters_init(char *start, char *stop) {
  char bounds[64];
  snprintf(bounds, sizeof bounds, "%zu %zu", (size_t)start, (size_t)(stop - start));
  setenv("SDREST_FUZZ_COUNTERS", bounds, 1);
}
