//! A client without a future per message: frames made before, confirms counted, acknowledgements for many at once.
//!
//! It is what a broker can do with one connection, only for measuring: no recovery, no errors but the end.

use std::{error::Error, io};

use lapin::uri::AMQPUri;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::wire::{
    self, Arguments, CHANNEL_CLOSE, CHANNEL_OPEN, CHANNEL_OPEN_OK, CLOSE, CONFIRM_SELECT,
    CONFIRM_SELECT_OK, CONSUME, CONSUME_OK, DELIVER, EXCHANGE_DECLARE, EXCHANGE_DECLARE_OK,
    Incoming, Method, OPEN, OPEN_OK, PROTOCOL, QOS, QOS_OK, QUEUE_BIND, QUEUE_BIND_OK,
    QUEUE_DECLARE, QUEUE_DECLARE_OK, QUEUE_DELETE, QUEUE_DELETE_OK, START, START_OK, TUNE, TUNE_OK,
};

const CHANNEL: u16 = 1;
const READ: usize = 64 * 1024;

/// A connection with one channel.
#[derive(Debug)]
pub(crate) struct Bare {
    stream: TcpStream,
    input: Vec<u8>,
    /// Where the next frame begins in `input`.
    at: usize,
    /// The tag of the last message that came.
    last: u64,
}

impl Bare {
    /// Connects, logs in and opens the channel.
    pub(crate) async fn connect(uri: &AMQPUri) -> Result<Self, Box<dyn Error>> {
        let authority = &uri.authority;
        let stream = TcpStream::connect((authority.host.as_str(), authority.port)).await?;
        stream.set_nodelay(true)?;
        let mut this = Self {
            stream,
            input: Vec::with_capacity(2 * READ),
            at: 0,
            last: 0,
        };
        this.stream.write_all(PROTOCOL).await?;
        this.expect(START).await?;
        let user = &authority.userinfo;
        let response = format!("\0{}\0{}", user.username, user.password);
        let login = Arguments::default()
            .table(&[])
            .short_text("PLAIN")
            .text(response.as_bytes())
            .short_text("en_US");
        this.write(&wire::method(0, START_OK, &login)).await?;
        this.expect(TUNE).await?;
        let tuned = Arguments::default().short(2_047).long(131_072).short(0);
        this.write(&wire::method(0, TUNE_OK, &tuned)).await?;
        let host = Arguments::default()
            .short_text(&uri.vhost)
            .short_text("")
            .byte(0);
        this.write(&wire::method(0, OPEN, &host)).await?;
        this.expect(OPEN_OK).await?;
        this.call(
            CHANNEL_OPEN,
            Arguments::default().short_text(""),
            CHANNEL_OPEN_OK,
        )
        .await?;
        Ok(this)
    }

    /// Declares a durable queue.
    pub(crate) async fn declare(&mut self, queue: &str, kind: &str) -> Result<(), Box<dyn Error>> {
        let arguments = Arguments::default()
            .short(0)
            .short_text(queue)
            .byte(0b0000_0010)
            .table(&[("x-queue-type", kind)]);
        self.call(QUEUE_DECLARE, arguments, QUEUE_DECLARE_OK).await
    }

    /// Declares a durable topic exchange and binds `queue` to it.
    pub(crate) async fn bind(
        &mut self,
        exchange: &str,
        queue: &str,
        topic: &str,
    ) -> Result<(), Box<dyn Error>> {
        let arguments = Arguments::default()
            .short(0)
            .short_text(exchange)
            .short_text("topic")
            .byte(0b0000_0010)
            .table(&[]);
        self.call(EXCHANGE_DECLARE, arguments, EXCHANGE_DECLARE_OK)
            .await?;
        let arguments = Arguments::default()
            .short(0)
            .short_text(queue)
            .short_text(exchange)
            .short_text(topic)
            .byte(0)
            .table(&[]);
        self.call(QUEUE_BIND, arguments, QUEUE_BIND_OK).await
    }

    /// Deletes a queue, whether it exists or not.
    pub(crate) async fn delete(&mut self, queue: &str) -> Result<(), Box<dyn Error>> {
        let arguments = Arguments::default().short(0).short_text(queue).byte(0);
        self.call(QUEUE_DELETE, arguments, QUEUE_DELETE_OK).await
    }

    /// Asks for confirms.
    pub(crate) async fn confirm(&mut self) -> Result<(), Box<dyn Error>> {
        let arguments = Arguments::default().byte(0);
        self.call(CONFIRM_SELECT, arguments, CONFIRM_SELECT_OK)
            .await
    }

    /// Publishes `count` times what `publication` holds, `window` of them unconfirmed at most.
    pub(crate) async fn publish(
        &mut self,
        publication: &[u8],
        count: u64,
        window: u64,
    ) -> Result<(), Box<dyn Error>> {
        let many = publication.repeat(usize::try_from(window)?);
        let (mut sent, mut confirmed) = (0, 0);
        while confirmed < count {
            let room = (window - (sent - confirmed)).min(count - sent);
            if room > 0 {
                let bytes = publication.len() * usize::try_from(room)?;
                self.write(&many[..bytes]).await?;
                sent += room;
            }
            self.each(|method, arguments| {
                if let (wire::ACK, Some((tag, multiple))) = (method, wire::acked(arguments)) {
                    // One queue confirms in order, so nothing above a single tag was confirmed before it.
                    confirmed = if multiple { tag } else { confirmed + 1 };
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Starts consuming `queue`.
    pub(crate) async fn consume(
        &mut self,
        queue: &str,
        prefetch: u16,
    ) -> Result<(), Box<dyn Error>> {
        let limit = Arguments::default().long(0).short(prefetch).byte(0);
        self.call(QOS, limit, QOS_OK).await?;
        let arguments = Arguments::default()
            .short(0)
            .short_text(queue)
            .short_text("bare")
            .byte(0)
            .table(&[]);
        self.call(CONSUME, arguments, CONSUME_OK).await
    }

    /// Waits for messages; returns how many came.
    pub(crate) async fn delivered(&mut self) -> Result<u64, Box<dyn Error>> {
        let (mut count, mut last) = (0, self.last);
        while count == 0 {
            self.each(|method, arguments| {
                if let (DELIVER, Some(tag)) = (method, wire::delivered(arguments)) {
                    (count, last) = (count + 1, tag);
                }
            })
            .await?;
        }
        self.last = last;
        Ok(count)
    }

    /// Acknowledges every message that came.
    pub(crate) async fn ack_last(&mut self) -> io::Result<()> {
        let ack = wire::ack(CHANNEL, self.last);
        self.write(&ack).await
    }

    /// Waits for a confirm.
    pub(crate) async fn confirmed(&mut self) -> Result<(), Box<dyn Error>> {
        let mut some = false;
        while !some {
            self.each(|method, _| some |= method == wire::ACK).await?;
        }
        Ok(())
    }

    /// Writes frames.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    async fn call(
        &mut self,
        method: Method,
        arguments: Arguments,
        answer: Method,
    ) -> Result<(), Box<dyn Error>> {
        self.write(&wire::method(CHANNEL, method, &arguments))
            .await?;
        self.expect(answer).await
    }

    /// Reads until `wanted` came; what comes before it is left out, what comes after it is kept.
    async fn expect(&mut self, wanted: Method) -> Result<(), Box<dyn Error>> {
        loop {
            while let Some((incoming, size)) = wire::parse(&self.input[self.at..]) {
                let found = match incoming {
                    Incoming::Method(method, arguments) => {
                        refuse_close(method, arguments)?;
                        method == wanted
                    }
                    Incoming::Other => false,
                };
                self.at += size;
                if found {
                    return Ok(());
                }
            }
            self.read().await?;
        }
    }

    /// Waits for at least one frame and hands every method among those that came to `take`.
    async fn each(&mut self, mut take: impl FnMut(Method, &[u8])) -> Result<(), Box<dyn Error>> {
        let mut some = false;
        loop {
            while let Some((incoming, size)) = wire::parse(&self.input[self.at..]) {
                if let Incoming::Method(method, arguments) = incoming {
                    refuse_close(method, arguments)?;
                    take(method, arguments);
                }
                self.at += size;
                some = true;
            }
            if some {
                return Ok(());
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        self.input.drain(..self.at);
        self.at = 0;
        self.input.reserve(READ);
        if self.stream.read_buf(&mut self.input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

fn refuse_close(method: Method, arguments: &[u8]) -> Result<(), Box<dyn Error>> {
    if method == CLOSE || method == CHANNEL_CLOSE {
        return Err(format!("closed: {}", String::from_utf8_lossy(arguments)).into());
    }
    Ok(())
}
