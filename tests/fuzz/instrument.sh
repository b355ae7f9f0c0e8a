#!/bin/sh
# Stands between cargo and rustc (RUSTC_WORKSPACE_WRAPPER) while guided.py builds: the crates of this workspace count
# each branch that they take. Those that they depend on are used as they are; what is generic in them, such as the
# decoders of serde, bincode and JSON, is compiled in ours and so is counted too. Programs that cargo runs while it
# builds are left alone.
case " $* " in
*" --crate-name build_script_"* | *" proc-macro "*) exec "$@" ;;
*" --crate-name "*)
  exec "$@" -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=3 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C "link-arg=$SDREST_FUZZ_RUNTIME"
  ;;
*) exec "$@" ;;
esac
