//! What a PAM module, which is root, reaches from inside a login of `serve`: tried by a script that pam_exec runs.

use crate::alone;
use anyhow::{Context, Result, ensure};
use harness::{
    Stack,
    etc::{ALICE, BOB, service},
    is_root, programs, skip,
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// Where the script writes, below the folder of modules' states.
const FOUND: &str = "found";

fn with_a_module_that_looks_around(etc: &Path) -> Result<()> {
    let dir = etc.parent().context("no folder")?.display();
    let ctl = programs::find("sdrestctl")?;
    let script = format!(
        "#!/bin/sh\nexec >{dir}/pam-state/{FOUND} 2>&1\n\
         echo state: $(ls {dir}/state)\necho run: $(ls {dir}/run)\necho disks: $(find /dev/ -type b)\n\
         grep CapPrm /proc/self/status\n\
         {} user list --run-dir {dir}/run && echo administrator\nexit 0\n",
        ctl.display()
    );
    let file = etc.join("sdrest-test/look");
    fs::write(&file, script)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    let plain = fs::read_to_string(etc.join("pam.d").join(service::PLAIN))?;
    let text = format!("auth optional pam_exec.so quiet /etc/sdrest-test/look\n{plain}");
    Ok(fs::write(etc.join("pam.d/sdrest-look"), text)?)
}

#[test]
fn a_module_reaches_no_key_no_administrators_socket_and_no_disk() -> Result<()> {
    if !is_root() {
        skip("without root a module is the caller, and nothing is hidden from it");
        return Ok(());
    }
    let _alone = alone();
    let mut stack = Stack::builder()
        .pam_service("sdrest-look")
        .edit_etc(with_a_module_that_looks_around)
        .start()?;
    stack.api().login(ALICE.name, ALICE.password)?;
    let found = fs::read_to_string(stack.etc().pam_state().join(FOUND))?;
    for line in ["state:", "run:", "disks:"] {
        ensure!(found.lines().any(|found| found == line), "{line} not empty:\n{found}");
    }
    ensure!(!found.contains("administrator\n"), "{found}");
    // CAP_CHOWN, CAP_DAC_OVERRIDE and CAP_AUDIT_WRITE, as in the units.
    ensure!(found.contains("CapPrm:\t0000000020000003\n"), "{found}");
    stack.api().login(BOB.name, BOB.password)?;
    stack.stop()?;
    Ok(())
}
