//! Parts of a URL, read with errors that name the part and never show a secret.

use std::{collections::HashSet, path::PathBuf, time::Duration};

/// The parts of `scheme://user:password@address/path?query`.
pub(crate) struct Parts<'a> {
    pub(crate) scheme: &'a str,
    /// User and password, decoded.
    pub(crate) login: Option<(String, Option<String>)>,
    pub(crate) address: &'a str,
    /// What stands behind the first `/`, as it stands there.
    pub(crate) path: Option<&'a str>,
    /// Names and decoded values, each name once.
    pub(crate) parameters: Vec<(&'a str, String)>,
}

/// Takes a URL apart that has one of `schemes`.
///
/// # Errors
/// Which part is wrong: what was expected and what was found, never a password.
pub(crate) fn parts<'a>(url: &'a str, schemes: &[&str]) -> Result<Parts<'a>, String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        let all = schemes.join(":// or ");
        return Err(format!("expected {all}://, found no //"));
    };
    if !schemes.contains(&scheme) {
        return Err(wrong("scheme", &schemes.join(" or "), scheme));
    }
    if url.contains('#') {
        return Err("expected no #; write it as %23".into());
    }
    let (authority, path, query) = split(rest)?;
    let (login, address) = match authority.rsplit_once('@') {
        None => (None, authority),
        Some((login, address)) => {
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(decode("password", password)?)),
                None => (login, None),
            };
            (Some((decode("user", user)?, password)), address)
        }
    };
    Ok(Parts {
        scheme,
        login,
        address,
        path,
        parameters: parameters(query)?,
    })
}

fn parameters(query: &str) -> Result<Vec<(&str, String)>, String> {
    let mut seen = HashSet::new();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let read = pairs.map(|pair| {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| wrong(pair, "a value after =", "none"))?;
        if !seen.insert(name) {
            return Err(format!("{}: expected once, found twice", shorten(name)));
        }
        Ok((name, decode(name, value)?))
    });
    read.collect()
}

/// The parameter `name` is none of `known`.
pub(crate) fn unknown(name: &str, known: &[&str]) -> String {
    let (known, name) = (known.join(", "), shorten(name));
    format!("expected one of the parameters {known}, found {name}")
}

/// What the word `value` stands for.
pub(crate) fn word<T: Copy>(name: &str, value: &str, words: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == value) {
        return Ok(*meaning);
    }
    let mut expected = String::new();
    for (place, (word, _)) in (1..).zip(words) {
        expected += match place {
            1 => "",
            _ if place == words.len() => " or ",
            _ => ", ",
        };
        expected += word;
    }
    Err(wrong(name, &expected, value))
}

/// Both of two parameters that belong together, or none.
pub(crate) fn both(names: [&str; 2], given: [bool; 2]) -> Result<(), String> {
    if given[0] == given[1] {
        return Ok(());
    }
    let [first, second] = names;
    Err(format!("expected both of {first} and {second}, found one"))
}

/// What was expected of `part` and what was found.
pub(crate) fn wrong(part: &str, expected: &str, found: &str) -> String {
    format!(
        "{}: expected {expected}, found {}",
        shorten(part),
        shorten(found)
    )
}

/// The start of `text`, without control characters.
pub(crate) fn shorten(text: &str) -> String {
    text.chars()
        .take(100)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A whole number from `min` to `max`.
pub(crate) fn number<T: TryFrom<u32>>(
    name: &str,
    value: &str,
    min: u32,
    max: u32,
) -> Result<T, String> {
    value
        .parse::<u32>()
        .ok()
        .filter(|n| (min..=max).contains(n))
        .and_then(|n| T::try_from(n).ok())
        .ok_or_else(|| wrong(name, &format!("a whole number from {min} to {max}"), value))
}

/// Seconds from `min` to a day.
pub(crate) fn seconds(name: &str, value: &str, min: f64) -> Result<Duration, String> {
    value
        .parse::<f64>()
        .ok()
        .filter(|s| (min..=86_400.0).contains(s))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| wrong(name, &format!("seconds from {min} to 86400"), value))
}

/// The path of a file.
pub(crate) fn path(name: &str, value: &str) -> Result<PathBuf, String> {
    if value.is_empty() || value.contains('\0') {
        return Err(wrong(name, "a path", value));
    }
    Ok(PathBuf::from(value))
}

/// What stands behind the scheme: login and host, the path behind the first slash if there is one, and the parameters.
///
/// # Errors
/// If an @ stands behind the host: the password has a character that ends the host, and no part may be shown then.
pub(crate) fn split(rest: &str) -> Result<(&str, Option<&str>, &str), String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (rest, None),
    };
    if query.contains('@') || path.is_some_and(|path| path.contains('@')) {
        return Err(
            "expected no @ behind the host; write / ? and @ in other parts as %2F, %3F and %40"
                .into(),
        );
    }
    Ok((authority, path, query))
}

/// A host without the brackets of an IPv6 address, and its port.
pub(crate) fn host_and_port(address: &str, default: u16) -> Result<(String, u16), String> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| wrong("host", "a ] after the address", address))?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(wrong("host", "an IPv6 address in brackets", host));
        }
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(wrong("port", ": after the host", rest)),
        }
    } else {
        match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    if host.is_empty() {
        return Err("host: expected a name or an address, found nothing".into());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if let Some(c) = host.chars().find(|c| !plain(*c)) {
        return Err(wrong(
            "host",
            "a name or an address",
            &format!("the character {c}"),
        ));
    }
    let port = match port {
        None => default,
        Some(port) => number("port", port, 1, 65_535).map_err(|reason| {
            // Without a host it is the password that stands there.
            let is_number = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
            match reason.split_once(", found ") {
                Some((expected, _)) if !is_number => expected.to_owned(),
                _ => reason,
            }
        })?,
    };
    Ok((host.to_owned(), port))
}

/// The percent-encoded text of `part`.
pub(crate) fn decode(part: &str, text: &str) -> Result<String, String> {
    // What stands there may be a secret: the part is named, its text is not.
    let refuse = || format!("{part}: expected percent-encoded UTF-8 text");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            // Two hexadecimal digits are at most 255.
            (Some(high), Some(low)) => bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?')),
            _ => return Err(refuse()),
        }
    }
    String::from_utf8(bytes).map_err(|_| refuse())
}

/// `text` as a part of a URL.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let digit =
                |n: u8| char::from_digit(u32::from(n), 16).map_or('0', |c| c.to_ascii_uppercase());
            encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    encoded
}
