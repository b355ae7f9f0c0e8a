//! Tells the linker where libtorch is at run time: torch-sys's own rpath does not reach this package's
//! programs and tests. `$ORIGIN/../../lib/sdrest` is where the packages put it.
fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../../lib/sdrest");
}
