//! The right to bind ports below 1024 (capabilities(7)).
//!
//! The image's binary has `cap_net_bind_service=+p`: started by another user than root it holds the
//! capability as permitted, where the container's bounding set has it, and starts without it where
//! it has not (with `+ep` the kernel would refuse to start it). What is permitted counts only once
//! it is effective, which is what this does.

/// CAP_NET_BIND_SERVICE.
const NET_BIND_SERVICE: u32 = 1 << 10;
/// _LINUX_CAPABILITY_VERSION_3: two words of 32 capabilities each.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    /// 0: this thread.
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Makes the capability effective if it is permitted; whether it is effective. For the thread that
/// calls and those it starts: to be called before any thread.
pub fn raise_net_bind_service() -> bool {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: the pointers are to a header of this version and its two words.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, &raw mut data) };
    if got != 0 || data[0].permitted & NET_BIND_SERVICE == 0 {
        return false;
    }
    data[0].effective |= NET_BIND_SERVICE;
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_capset, &raw mut header, &raw const data) == 0 }
}
