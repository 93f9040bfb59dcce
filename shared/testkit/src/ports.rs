//! Ports of 127.0.0.1 that no other test process takes while they are held.
//!
//! Asking the kernel for a free port and closing it again leaves a gap in which somebody else gets it; so ports
//! come from a range that the kernel gives to nobody, and a lock on a file says which are taken.

use std::fs::File;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::owner;

/// Below the private servers' (20 000 on) and the kernel's (32 768 on).
const FIRST: u16 = 12_000;
const COUNT: u16 = 7_000;

/// A port, until dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    pub(crate) fn reserve() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = owner::folder().join("ports");
        std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
        let begin = std::process::id() % u32::from(COUNT);
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let at = (begin + u32::from(step) * 7) % u32::from(COUNT);
            let number = FIRST + u16::try_from(at).expect("less than COUNT");
            let lock =
                File::create(folder.join(number.to_string())).expect("a lock file can be made");
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self {
                    number,
                    _lock: lock,
                };
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + COUNT);
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_port_is_not_given_twice() {
        let ports: Vec<Port> = (0..50).map(|_| Port::reserve()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
    }
}
