//! Compiles the C++ beside this file against the headers of the libtorch that tch links, and links that
//! libtorch's CPU library. It includes ATen's small headers only: `torch/torch.h` takes a minute.
use std::path::PathBuf;

fn main() -> Result<(), String> {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=src/shim.cpp");
    let libtorch =
        std::env::var("LIBTORCH").map_err(|_| "LIBTORCH is not set; run `make libtorch`")?;
    let root = PathBuf::from(&libtorch);
    if !root.join("include/ATen/Version.h").is_file() {
        return Err(format!(
            "{libtorch} holds no libtorch (include/ATen/Version.h); run `make libtorch`"
        ));
    }
    let mimalloc = std::env::var("DEP_MIMALLOC_INCLUDE_DIR")
        .map_err(|_| "libmimalloc-sys does not say where its header is")?;
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(mimalloc)
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .file("src/shim.cpp")
        .compile("sdrest_torch_shim");
    println!("cargo:rustc-link-search=native={libtorch}/lib");
    println!("cargo:rustc-link-lib=dylib=torch_cpu");
    println!("cargo:rustc-link-lib=dylib=c10");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    Ok(())
}
