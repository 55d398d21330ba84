// Must not compile under `--cfg bine_loom`: `ci/loom.sh` looks at the message.
fn main() {
    let _ = bine::net::TcpStream::connect("127.0.0.1:1");
    let _ = bine::os::unix::net::UnixStream::pair();
    let _ = bine::io::Async::new(bine::io::stdin());
    let _ = bine::signal::ctrl_c();
    let _ = bine::time::timeout(bine::time::Duration::ZERO, || ());
}
