//! tokio: the multi-threaded runtime, a task for each connection.
//!
//! Started as `tokio PORT echo|greet|hello [N]`; N threads run tasks, by default as many as CPUs are
//! usable. A task has a buffer of 4 KiB. TCP_NODELAY: off by default in tokio, set here for each
//! connection, as its users do. Backlog: 4096.

use std::env;
use std::net::SocketAddr;
use std::process::exit;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Result};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const GREETING: &[u8] = b"Message from server\0";
const BACKLOG: u32 = 4096;
const BUFFER_SIZE: usize = 4096;

#[derive(Clone, Copy)]
enum Exchange {
    Echo,
    Greet,
    Hello,
}

/// Send every byte back until the client closes.
async fn echo(conn: &mut TcpStream) -> Result<()> {
    let mut buffer = [0; BUFFER_SIZE];
    loop {
        let size = conn.read(&mut buffer).await?;
        if size == 0 {
            return Ok(());
        }
        conn.write_all(&buffer[..size]).await?;
    }
}

/// Send the greeting and receive one message up to a 0 byte.
async fn greet(conn: &mut TcpStream) -> Result<()> {
    conn.write_all(GREETING).await?;
    let mut buffer = [0; BUFFER_SIZE];
    loop {
        let size = conn.read(&mut buffer).await?;
        if size == 0 || buffer[..size].contains(&0) {
            return Ok(());
        }
    }
}

/// Serve one connection; an error ends it. Dropping the stream closes it.
async fn serve(mut conn: TcpStream, exchange: Exchange) {
    if conn.set_nodelay(true).is_err() {
        return;
    }
    let _ = match exchange {
        Exchange::Echo => echo(&mut conn).await,
        Exchange::Greet => greet(&mut conn).await,
        Exchange::Hello => conn.write_all(GREETING).await,
    };
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    socket.listen(BACKLOG)
}

async fn run(port: u16, exchange: Exchange) -> Result<()> {
    let listener = listen(port)?;
    println!("listening {}", listener.local_addr()?);
    loop {
        let (conn, _) = listener.accept().await?;
        tokio::spawn(serve(conn, exchange));
    }
}

fn usage() -> ! {
    eprintln!("usage: tokio PORT echo|greet|hello [N]");
    exit(64)
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if arguments.len() < 3 || arguments.len() > 4 {
        usage();
    }
    let port = arguments[1].parse().unwrap_or_else(|_| usage());
    let exchange = match arguments[2].as_str() {
        "echo" => Exchange::Echo,
        "greet" => Exchange::Greet,
        "hello" => Exchange::Hello,
        _ => usage(),
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if arguments.len() == 4 {
        match arguments[3].parse() {
            Ok(count) if count > 0 => builder.worker_threads(count),
            _ => usage(),
        };
    }
    let runtime = builder.enable_io().build().expect("a runtime");
    // The accept loop runs on a worker: the main thread would hand each connection over to another.
    let ended = runtime.block_on(async move { tokio::spawn(run(port, exchange)).await });
    eprintln!("tokio: {:?}", ended);
    exit(1);
}
