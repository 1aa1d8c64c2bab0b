//! The bytes of AMQP 0-9-1 that the bare client needs: a few methods out, a few in.
//!
//! Source: AMQP 0-9-1 specification, §4.2 (frames) and its XML for the method numbers.

/// A method's class and number.
pub(crate) type Method = (u16, u16);

pub(crate) const START: Method = (10, 10);
pub(crate) const START_OK: Method = (10, 11);
pub(crate) const TUNE: Method = (10, 30);
pub(crate) const TUNE_OK: Method = (10, 31);
pub(crate) const OPEN: Method = (10, 40);
pub(crate) const OPEN_OK: Method = (10, 41);
pub(crate) const CLOSE: Method = (10, 50);
pub(crate) const CHANNEL_OPEN: Method = (20, 10);
pub(crate) const CHANNEL_OPEN_OK: Method = (20, 11);
pub(crate) const CHANNEL_CLOSE: Method = (20, 40);
pub(crate) const EXCHANGE_DECLARE: Method = (40, 10);
pub(crate) const EXCHANGE_DECLARE_OK: Method = (40, 11);
pub(crate) const QUEUE_BIND: Method = (50, 20);
pub(crate) const QUEUE_BIND_OK: Method = (50, 21);
pub(crate) const QUEUE_DECLARE: Method = (50, 10);
pub(crate) const QUEUE_DECLARE_OK: Method = (50, 11);
pub(crate) const QUEUE_DELETE: Method = (50, 40);
pub(crate) const QUEUE_DELETE_OK: Method = (50, 41);
pub(crate) const QOS: Method = (60, 10);
pub(crate) const QOS_OK: Method = (60, 11);
pub(crate) const CONSUME: Method = (60, 20);
pub(crate) const CONSUME_OK: Method = (60, 21);
pub(crate) const PUBLISH: Method = (60, 40);
pub(crate) const DELIVER: Method = (60, 60);
pub(crate) const ACK: Method = (60, 80);
pub(crate) const CONFIRM_SELECT: Method = (85, 10);
pub(crate) const CONFIRM_SELECT_OK: Method = (85, 11);

pub(crate) const PROTOCOL: &[u8] = b"AMQP\0\0\x09\x01";

const METHOD_FRAME: u8 = 1;
const HEADER_FRAME: u8 = 2;
const BODY_FRAME: u8 = 3;
const FRAME_END: u8 = 0xCE;
/// Type, channel and length before a frame's payload, and the byte after it.
const AROUND: usize = 8;

/// The arguments of a method, written one after another.
#[derive(Default)]
pub(crate) struct Arguments(Vec<u8>);

impl Arguments {
    pub(crate) fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn short(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn long(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn long_long(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// At most 255 bytes.
    pub(crate) fn short_text(mut self, value: &str) -> Self {
        self.0.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        self.0.extend(value.as_bytes());
        self
    }

    pub(crate) fn text(self, value: &[u8]) -> Self {
        let mut this = self.long(length(value));
        this.0.extend(value);
        this
    }

    /// A table of text.
    pub(crate) fn table(self, fields: &[(&str, &str)]) -> Self {
        let rows = fields.iter().fold(Self::default(), |rows, (name, value)| {
            rows.short_text(name).byte(b'S').text(value.as_bytes())
        });
        self.text(&rows.0)
    }
}

/// A method's frame.
pub(crate) fn method(channel: u16, (class, number): Method, arguments: &Arguments) -> Vec<u8> {
    let mut payload = Arguments::default().short(class).short(number).0;
    payload.extend(&arguments.0);
    frame(METHOD_FRAME, channel, &payload)
}

/// The three frames of a persistent message to a queue, through the default exchange.
pub(crate) fn publication(channel: u16, queue: &str, body: &[u8]) -> Vec<u8> {
    let arguments = Arguments::default()
        .short(0)
        .short_text("")
        .short_text(queue)
        .byte(0);
    let mut bytes = method(channel, PUBLISH, &arguments);
    // Properties that are present: content type (bit 15) and delivery mode (bit 12).
    let header = Arguments::default()
        .short(PUBLISH.0)
        .short(0)
        .long_long(u64::from(length(body)))
        .short(0b1001_0000_0000_0000)
        .short_text("application/json")
        .byte(2);
    bytes.extend(frame(HEADER_FRAME, channel, &header.0));
    bytes.extend(frame(BODY_FRAME, channel, body));
    bytes
}

/// The three frames of a message as Orkestra sends it: through a topic exchange, mandatory, with its properties and its header.
pub(crate) fn orkestra_publication(
    channel: u16,
    exchange: &str,
    topic: &str,
    body: &[u8],
) -> Vec<u8> {
    const ID: &str = "019506b8-9d2a-7c3e-8f00-0123456789ab";
    let arguments = Arguments::default()
        .short(0)
        .short_text(exchange)
        .short_text(topic)
        .byte(1);
    let mut bytes = method(channel, PUBLISH, &arguments);
    let attempt = Arguments::default()
        .short_text("x-orkestra-attempt")
        .byte(b'I')
        .long(1);
    // In the order of their bits: content type (15), headers (13), delivery mode (12), correlation id (10), message id (7),
    // timestamp (6), type (5), app id (3).
    let header = Arguments::default()
        .short(PUBLISH.0)
        .short(0)
        .long_long(u64::from(length(body)))
        .short(0b1011_0100_1110_1000)
        .short_text("application/json")
        .text(&attempt.0)
        .byte(2)
        .short_text(ID)
        .short_text(ID)
        .long_long(1_700_000_000)
        .short_text("command")
        .short_text("bench");
    bytes.extend(frame(HEADER_FRAME, channel, &header.0));
    bytes.extend(frame(BODY_FRAME, channel, body));
    bytes
}

/// An acknowledgement of everything up to `tag`.
pub(crate) fn ack(channel: u16, tag: u64) -> Vec<u8> {
    method(channel, ACK, &Arguments::default().long_long(tag).byte(1))
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + AROUND);
    bytes.push(kind);
    bytes.extend(channel.to_be_bytes());
    bytes.extend(length(payload).to_be_bytes());
    bytes.extend(payload);
    bytes.push(FRAME_END);
    bytes
}

/// What came, as far as the bare client looks.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    /// A method with its arguments.
    Method(Method, &'a [u8]),
    /// The header or a part of the body of a message, or a heartbeat.
    Other,
}

/// The first frame in `bytes` and how long it is; `None` until it is whole.
pub(crate) fn parse(bytes: &[u8]) -> Option<(Incoming<'_>, usize)> {
    let size = u32::from_be_bytes(bytes.get(3..7)?.try_into().ok()?) as usize;
    let payload = bytes.get(7..7 + size)?;
    bytes.get(7 + size)?;
    let incoming = match (bytes[0], payload) {
        (METHOD_FRAME, [a, b, c, d, arguments @ ..]) => {
            let number = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            Incoming::Method(number, arguments)
        }
        _ => Incoming::Other,
    };
    Some((incoming, size + AROUND))
}

/// The delivery tag and `multiple` of an acknowledgement from the broker.
pub(crate) fn acked(arguments: &[u8]) -> Option<(u64, bool)> {
    let tag = u64::from_be_bytes(arguments.get(..8)?.try_into().ok()?);
    Some((tag, arguments.get(8)? & 1 == 1))
}

/// The delivery tag of a message: after the consumer's tag.
pub(crate) fn delivered(arguments: &[u8]) -> Option<u64> {
    let start = 1 + usize::from(*arguments.first()?);
    Some(u64::from_be_bytes(
        arguments.get(start..start + 8)?.try_into().ok()?,
    ))
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
