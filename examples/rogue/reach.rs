//! What a hostile server reaches for: files, the network, memory, processes. Each tool answers with what it got.
//!
//! None of them can hurt the machine of the tests where nothing stops them: they stop themselves.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use crate::server::Call;

/// So many processes, whatever was asked for.
const PROCESSES_MAX: u64 = 2000;
/// Taken at a time, every page of it used.
const STEP: u64 = 16;

fn tell<T: ToString>(call: Call, outcome: io::Result<T>) {
    match outcome {
        Ok(text) => call.answer(text),
        Err(error) => call.answer(format!("error: {:?}: {error}", error.kind())),
    }
}

pub fn read_file(call: Call) {
    let content = fs::read(call.text("path"));
    tell(call, content.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
}

pub fn write_file(call: Call) {
    let file = OpenOptions::new().create(true).append(true).open(call.text("path"));
    let written = file.and_then(|mut file| file.write_all(b"rogue\n"));
    tell(call, written.map(|()| "written"));
}

pub fn empty_file(call: Call) {
    let emptied = empty(call.text("path"));
    tell(call, emptied.map(|()| "emptied"));
}

/// By its path: that needs no file that is open for writing.
#[cfg(target_os = "linux")]
fn empty(path: &str) -> io::Result<()> {
    let path = std::ffi::CString::new(path)?;
    // SAFETY: it reads the path, which lives until it returns.
    match unsafe { libc::truncate(path.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn empty(path: &str) -> io::Result<()> {
    OpenOptions::new().write(true).truncate(true).open(path).map(drop)
}

/// `tcp`, `udp`, `unix` or `pair`.
pub fn connect(call: Call) {
    let to = call.text("to");
    let outcome = match call.text("by") {
        "tcp" => TcpStream::connect(to).map(drop),
        "udp" => {
            let local = if to.starts_with('[') { "[::1]:0" } else { "127.0.0.1:0" };
            UdpSocket::bind(local).and_then(|socket| socket.send_to(b"rogue", to)).map(drop)
        }
        #[cfg(unix)]
        "unix" => std::os::unix::net::UnixStream::connect(to).map(drop),
        #[cfg(unix)]
        "pair" => std::os::unix::net::UnixStream::pair().map(drop),
        #[cfg(target_os = "linux")]
        "ring" => ring(),
        other => Err(io::Error::other(format!("no way {other:?} here"))),
    };
    tell(call, outcome.map(|()| "connected"));
}

/// An io_uring, which can make sockets by itself.
#[cfg(target_os = "linux")]
fn ring() -> io::Result<()> {
    let mut params = [0u8; 120];
    // SAFETY: the kernel fills the parameters, which are as large as it knows them; the descriptor is closed at once.
    match unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) } {
        -1 => Err(io::Error::last_os_error()),
        fd => {
            // SAFETY: it is open, and ours.
            unsafe { libc::close(fd as i32) };
            Ok(())
        }
    }
}

/// Answers with how many processes it got, and lets them go.
pub fn fork(call: Call) {
    let wanted = call.number("count").min(PROCESSES_MAX);
    let mut started = Vec::new();
    while (started.len() as u64) < wanted {
        let mut child = Command::new("/bin/cat");
        match child.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => started.push(child),
            Err(_) => break,
        }
    }
    let count = started.len();
    for child in &mut started {
        let _ = child.kill();
        let _ = child.wait();
    }
    call.answer(count);
}

/// Answers with how many MiB it got, and gives them back.
pub fn allocate(call: Call) {
    let (wanted, mut got, mut kept) = (call.number("mib"), 0, Vec::new());
    while got < wanted {
        let mut block: Vec<u8> = Vec::new();
        if block.try_reserve_exact((STEP << 20) as usize).is_err() {
            break;
        }
        (0..STEP).for_each(|_| block.extend_from_slice(&[1; 1 << 20]));
        kept.push(block);
        got += STEP;
    }
    drop(kept);
    call.answer(got);
}

/// Takes memory that may be shared with other processes, or that grows as stacks do; touches none of it.
#[cfg(target_os = "linux")]
pub fn map(call: Call) {
    let kind = match call.text("kind") {
        "shared" => libc::MAP_SHARED,
        "growing" => libc::MAP_PRIVATE | libc::MAP_GROWSDOWN,
        _ => libc::MAP_PRIVATE,
    };
    let bytes = (call.number("mib") << 20) as usize;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice, which is given back at once and never used.
    let got = unsafe {
        let place = libc::mmap(std::ptr::null_mut(), bytes, access, kind | libc::MAP_ANONYMOUS, -1, 0);
        if place == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(libc::munmap(place, bytes)) }
    };
    tell(call, got.map(|_| "mapped"));
}

#[cfg(not(target_os = "linux"))]
pub fn map(call: Call) {
    call.fail(-32603, "not here");
}
