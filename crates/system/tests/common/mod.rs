//! Real sockets on loopback, and a batch where the kernel allows one.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use doorbell_system::batch::Batch;

/// Whatever a test waits for comes long before.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A batch; `None`, with the reason printed, where the kernel has or allows none.
pub(crate) fn batch() -> Option<Batch> {
    match Batch::new() {
        Ok(batch) => Some(batch),
        Err(error) if forbids(&error) => {
            println!("skipped: the kernel gives no io_uring: {error}");
            None
        }
        Err(error) => panic!("no batch: {error}"),
    }
}

/// Whether that is the kernel's doing: it forbids io_uring (`EPERM`), has none (`ENOSYS`), or is too old for these flags (`EINVAL`).
fn forbids(error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => true,
        io::ErrorKind::InvalidInput => is_before_6_1(),
        _ => false,
    }
}

fn is_before_6_1() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux says which it is");
    let mut numbers = release.split(|other: char| !other.is_ascii_digit()).map(str::parse::<u32>);
    let (major, minor) = (numbers.next(), numbers.next());
    matches!((major, minor), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (6, 1))
}

/// A socket to send by, and its peer to read from. Both block.
pub(crate) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (socket, _) = listener.accept().expect("accepts");
    peer.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    (socket, peer)
}
