//! The other numbers of x86-64: the kernel may also take calls with the bit of the x32 ABI set, under the same
//! architecture as far as a filter can tell (seccomp(2), "Caveats"), so a list of numbers does not see `socket` as
//! 0x40000029. Nothing here is built for x32: all of it looks unimplemented, as where the kernel has none. The same goes
//! for 512 to 547, x32's own numbers, which kernels before 5.4 also took without the bit.
//!
//! The crate's filters compare numbers one by one; this one compares ranges, so it is written out.

use nix::libc;
use seccompiler::{BpfProgram, sock_filter};

/// `__X32_SYSCALL_BIT`; also what is negative lies above.
const X32: u32 = 0x4000_0000;
/// The first of x32's own numbers, and the first after them.
const X32_OWN: [u32; 2] = [512, 548];

/// Answers ENOSYS to x32's numbers, and leaves the rest to the other filters.
pub(crate) fn program() -> BpfProgram {
    let instruction = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let at_least = |k, jt, jf| instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, jt, jf, k);
    let answer = |k| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, k);
    vec![
        // The number is the first member of seccomp_data. Jumps count the instructions that are passed over.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        at_least(X32, 3, 0),
        at_least(X32_OWN[1], 1, 0),
        at_least(X32_OWN[0], 1, 0),
        answer(libc::SECCOMP_RET_ALLOW),
        answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with the program for this call (classic BPF, as far as the program uses it).
    fn answer(number: u32) -> u32 {
        let program = program();
        let (mut at, mut loaded) = (0, None);
        loop {
            let step = program.get(at).unwrap();
            at += 1;
            match u32::from(step.code) {
                0x20 => loaded = Some(number).filter(|_| step.k == 0),
                0x35 => {
                    at += usize::from(if loaded.unwrap() >= step.k { step.jt } else { step.jf })
                }
                0x06 => return step.k,
                other => assert_eq!(other, 0x06, "an instruction that this knows"),
            }
        }
    }

    #[test]
    fn no_number_of_x32_gets_through() {
        let unimplemented = libc::SECCOMP_RET_ERRNO | 38;
        let calls = [libc::SYS_read, libc::SYS_socket, libc::SYS_execve, libc::SYS_ptrace];
        for call in calls.map(|call| u32::try_from(call).unwrap()) {
            assert_eq!(answer(call), libc::SECCOMP_RET_ALLOW, "{call}");
            assert_eq!(answer(call | X32), unimplemented, "{call} by x32");
        }
        for (number, refused) in [
            (511, false),
            (512, true),
            (520, true),
            (547, true),
            (548, false),
            (X32 - 1, false),
            (X32, true),
            (u32::MAX, true),
        ] {
            assert_eq!(answer(number) == unimplemented, refused, "{number}");
        }
    }
}
