//! Free ports on loopback, taken from below the range that outgoing connections use, so that nobody else picks them.

use crate::trouble::{Told, Trouble};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 20_000;
const COUNT: u32 = 11_000;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// An address on loopback where nobody listens, given out once by this process.
pub fn free() -> Told<SocketAddrV4> {
    // Processes that run at the same time begin at different places.
    let start = std::process::id().wrapping_mul(211);
    for _ in 0..COUNT {
        let offset = start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("the range ends below 65,536");
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Trouble::new("no free port on loopback"))
}
