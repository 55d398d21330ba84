// Must not compile under `--cfg bine_loom`: `ci/loom.sh` looks at the message.
fn main() {
    let _ = bine::net::TcpStream::connect("127.0.0.1:1");
    let _ = bine::signal::ctrl_c();
}
