//! System calls that are refused: a seccomp filter against sockets, and against memory that no limit counts.
//!
//! What is refused fails with EACCES, so that a program can say what it missed. A program of another architecture
//! (such as a 32-bit one), whose calls have other numbers, is ended.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// The same calls by numbers of the x32 kind, which pass for this architecture.
#[cfg(target_arch = "x86_64")]
const TWINS: [i64; 2] = [0, 0x4000_0000];
#[cfg(not(target_arch = "x86_64"))]
const TWINS: [i64; 1] = [0];

/// The kind of a socket, without its flags.
const KIND: u64 = 0xf;

/// `offline`: no sockets but connected pairs. `private`: no memory beside what RLIMIT_DATA counts.
pub(super) fn filter(offline: bool, private: bool) -> Result<BpfProgram, BackendError> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    if offline {
        refused.insert(libc::SYS_socket, Vec::new());
        // A pair reaches nobody. One of datagrams could: each of them may have an address.
        let foreign = argument(0, SeccompCmpOp::Ne, libc::AF_UNIX as u64)?;
        let datagrams = argument(1, SeccompCmpOp::MaskedEq(KIND), libc::SOCK_DGRAM as u64)?;
        refused.insert(libc::SYS_socketpair, vec![foreign, datagrams]);
        // It makes sockets without a call.
        refused.insert(libc::SYS_io_uring_setup, Vec::new());
    }
    if private {
        let shared = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u64;
        let growing = libc::MAP_GROWSDOWN as u64;
        let rules = [shared, growing].map(|flags| argument(3, SeccompCmpOp::MaskedEq(flags), flags));
        refused.insert(libc::SYS_mmap, rules.into_iter().collect::<Result<_, _>>()?);
        refused.insert(libc::SYS_memfd_create, Vec::new());
        refused.insert(libc::SYS_shmget, Vec::new());
    }
    let twins = TWINS.iter().flat_map(|twin| refused.iter().map(move |(call, rules)| (call | twin, rules.clone())));
    let denied = SeccompAction::Errno(libc::EACCES as u32);
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(twins.collect(), SeccompAction::Allow, denied, arch)?.try_into()
}

fn argument(index: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(index, SeccompCmpArgLen::Dword, is, value)?])
}
