//! A backend that writes down what reaches it, byte for byte, and reads it more strictly than anything
//! does: so that whatever somebody else could read in it would be noticed here.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// It answers every request with `ok`, and ends with the test.
pub(super) struct Recorder {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    accepting: JoinHandle<()>,
}

/// What came as a request.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The head, with the blank line.
    pub(super) head: String,
    /// The content, without chunks.
    pub(super) content: Vec<u8>,
    /// The trailer fields, line by line.
    pub(super) trailers: Vec<String>,
    /// Why it is no whole request.
    pub(super) fault: Option<Fault>,
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection has ended in the middle of it, so nobody acts on it.
    Cut,
    /// It can be read in more than one way, or in none.
    Wrong(String),
}

fn wrong(what: impl Into<String>) -> Fault {
    Fault::Wrong(what.into())
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Recorder {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.2:0").await;
        let listener = listener.expect("an address for the backend");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let accepting = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(record(stream, Arc::clone(&seen)));
                }
            }
        });
        Self {
            url,
            seen,
            accepting,
        }
    }

    /// Its URL, without a path.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What has come since the last look.
    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().expect("no test has failed in it"))
    }
}

impl Seen {
    /// The request line.
    pub(super) fn line(&self) -> &str {
        self.head.split("\r\n").next().unwrap_or_default()
    }

    /// The values of all lines of a field.
    pub(super) fn fields(&self, name: &str) -> Vec<&str> {
        let lines = self.head.split("\r\n").skip(1);
        let fields = lines.filter_map(|line| line.split_once(": "));
        let of_name = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value).collect()
    }
}

async fn record(mut stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut unread = Vec::new();
    loop {
        let read = request(&mut stream, &mut unread).await;
        let Some(read) = read else { return };
        let is_whole = read.fault.is_none();
        seen.lock().expect("no test has failed in it").push(read);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        if !is_whole || stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// The next request; `None`: the connection has ended before one.
async fn request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Seen> {
    let head = match through(stream, unread, b"\r\n\r\n").await {
        Ok(head) => head,
        Err(rest) if rest.is_empty() => return None,
        Err(rest) => return Some(broken(&rest, Fault::Cut)),
    };
    let mut read = match check(&head) {
        Ok(head) => Seen {
            head,
            content: Vec::new(),
            trailers: Vec::new(),
            fault: None,
        },
        Err(fault) => return Some(broken(&head, wrong(fault))),
    };
    read.fault = content(stream, unread, &mut read).await.err();
    Some(read)
}

fn broken(bytes: &[u8], fault: Fault) -> Seen {
    Seen {
        head: String::from_utf8_lossy(bytes).into_owned(),
        content: Vec::new(),
        trailers: Vec::new(),
        fault: Some(fault),
    }
}

/// A head as RFC 9112 has it, letter by letter.
fn check(head: &[u8]) -> Result<String, &'static str> {
    let text = String::from_utf8(head.to_vec()).map_err(|_not_text| "the head is no text")?;
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let line = lines.next().unwrap_or_default();
    let parts: Vec<&str> = line.split(' ').collect();
    let is_line = matches!(&parts[..], [method, target, "HTTP/1.1"]
        if method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
            && target.starts_with('/'));
    if !is_line {
        return Err("the request line is none");
    }
    for line in lines {
        let Some((name, value)) = line.split_once(": ") else {
            return Err("a field line is none");
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err("the name of a field is none");
        }
        if value.trim() != value || value.chars().any(|c| c.is_control() && c != '\t') {
            return Err("the value of a field is none");
        }
    }
    Ok(text)
}

/// Reads what comes after the head.
async fn content(
    stream: &mut TcpStream,
    unread: &mut Vec<u8>,
    read: &mut Seen,
) -> Result<(), Fault> {
    let hosts = read.fields("host").len();
    let own = |values: Vec<&str>| {
        values
            .iter()
            .map(|&value| value.to_owned())
            .collect::<Vec<_>>()
    };
    let (lengths, codings) = (
        own(read.fields("content-length")),
        own(read.fields("transfer-encoding")),
    );
    if hosts != 1 {
        return Err(wrong(format!("{hosts} hosts")));
    }
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(()),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse().map_err(|_no_number| wrong("no length"))?;
            read.content = exactly(stream, unread, length).await?;
            Ok(())
        }
        ([], [coding]) if coding == "chunked" => chunks(stream, unread, read).await,
        _ => Err(wrong(format!("lengths {lengths:?}, codings {codings:?}"))),
    }
}

async fn chunks(
    stream: &mut TcpStream,
    unread: &mut Vec<u8>,
    read: &mut Seen,
) -> Result<(), Fault> {
    let cut = |_rest: Vec<u8>| Fault::Cut;
    loop {
        let line = through(stream, unread, b"\r\n").await.map_err(cut)?;
        let digits = line.strip_suffix(b"\r\n").unwrap_or_default();
        let is_size = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
        let size = std::str::from_utf8(digits).ok().filter(|_| is_size);
        let size = size.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let size = size.ok_or_else(|| wrong(format!("a chunk of {line:?}")))?;
        if size == 0 {
            break;
        }
        read.content.extend(exactly(stream, unread, size).await?);
        if exactly(stream, unread, 2).await? != b"\r\n" {
            return Err(wrong("a chunk is longer than it says"));
        }
    }
    loop {
        let line = through(stream, unread, b"\r\n").await.map_err(cut)?;
        let line = String::from_utf8_lossy(&line);
        match line.trim_end_matches("\r\n") {
            "" => return Ok(()),
            line => read.trailers.push(line.to_owned()),
        }
    }
}

/// Reads up to and with `mark`; or gives what came before the end.
async fn through(
    stream: &mut TcpStream,
    unread: &mut Vec<u8>,
    mark: &[u8],
) -> Result<Vec<u8>, Vec<u8>> {
    loop {
        let found = unread.windows(mark.len()).position(|bytes| bytes == mark);
        if let Some(at) = found {
            return Ok(unread.drain(..at + mark.len()).collect());
        }
        if !matches!(stream.read_buf(unread).await, Ok(1..)) {
            return Err(std::mem::take(unread));
        }
    }
}

async fn exactly(stream: &mut TcpStream, unread: &mut Vec<u8>, n: usize) -> Result<Vec<u8>, Fault> {
    while unread.len() < n {
        if !matches!(stream.read_buf(unread).await, Ok(1..)) {
            return Err(Fault::Cut);
        }
    }
    Ok(unread.drain(..n).collect())
}
