//! Gives memory back: after a crowd has left, after a start, after a reload.
//!
//! The C library keeps what was freed for the next allocation, which is right while there will be one. After ten
//! thousand calls or sessions have ended it would keep a hundred megabytes for nobody. And the pages of program files stay
//! mapped that only a start or a reload needs: most of what a hub at rest would be said to occupy.

use std::time::Duration;

/// So long after a configuration was applied its upstreams have been started, or are waited for.
pub const SETTLED: Duration = Duration::from_millis(500);

/// A crowd that is worth the trouble.
const CROWD: usize = 1000;

/// How many there were at most since memory was last given back.
#[derive(Default)]
pub struct Thrift {
    peak: usize,
}

impl Thrift {
    /// Is it time? `now`: the sessions, streams and waiting calls of this moment.
    pub fn is_due(&mut self, now: usize) -> bool {
        self.peak = self.peak.max(now);
        let due = self.peak >= CROWD && now <= self.peak / 2;
        if due {
            self.peak = now;
        }
        due
    }
}

/// Gives the memory that nobody uses back to the system. Takes some milliseconds. What is used of the program comes back
/// from the page cache, by some hundred faults of a microsecond each.
pub fn give_back() {
    #[cfg(target_os = "linux")]
    // SAFETY: the callback fits its type, keeps nothing of what it is shown, and cannot unwind.
    unsafe {
        libc::dl_iterate_phdr(Some(unmap), std::ptr::null_mut());
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointers, and may be called from any thread at any time (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Unmaps the pages of one program file, as far as nothing can have been written to them.
#[cfg(target_os = "linux")]
// SAFETY: unsafe to call, and called with what dl_iterate_phdr(3) shows only.
unsafe extern "C" fn unmap(object: *mut libc::dl_phdr_info, _: usize, _: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the object stays while it is shown, and has that many headers.
    let (object, headers) = unsafe {
        let object = &*object;
        (object, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    // SAFETY: a name is null, or a text that ends.
    let is_file = object.dlpi_name.is_null() || matches!(unsafe { *object.dlpi_name }.cast_unsigned(), 0 | b'/');
    if !is_file {
        return 0;
    }
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        let page = rustix::param::page_size();
        let begin = ((object.dlpi_addr + header.p_vaddr) as usize).next_multiple_of(page);
        let end = (object.dlpi_addr + header.p_vaddr + header.p_filesz) as usize / page * page;
        // SAFETY: whole pages of a file's segment that is mapped, and for reading only: each is read again as it was.
        unsafe { libc::madvise(begin as *mut _, end.saturating_sub(begin), libc::MADV_DONTNEED) };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_left_is_noticed_once() {
        let mut thrift = Thrift::default();
        let seen = [10, 900, 10, 5000, 3000, 2500, 2400, 1300, 100, 0].map(|now| thrift.is_due(now));
        assert_eq!(seen, [false, false, false, false, false, true, false, false, true, false]);
    }
}
