//! URLs in messages, without what may be a password.

/// The start of `url` without what may be a password, wherever a typo has put it.
pub(super) fn redact(url: &str) -> String {
    let shown = match url.split_once("://") {
        Some((scheme, rest)) => format!("{}://{}", first_word(scheme), without_login(rest)),
        // A path may have any characters.
        None if url.starts_with("sqlite:") => url.to_owned(),
        None => match url.rsplit_once('@') {
            // Nobody knows what stands where.
            Some((login, host)) => format!("{}:***@{host}", first_word(login)),
            None => url.to_owned(),
        },
    };
    let parts = shown.split_inclusive(['?', '&']).map(without_secret);
    parts.collect::<String>().chars().take(200).collect()
}

/// The scheme that stands in front of `url`, if one does.
pub(super) fn scheme_of(url: &str) -> Option<&str> {
    let (scheme, _) = url.split_once(':')?;
    (!scheme.is_empty() && first_word(scheme) == scheme).then_some(scheme)
}

fn first_word(text: &str) -> &str {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
    text.split(|c| !plain(c)).next().unwrap_or_default()
}

fn without_login(rest: &str) -> String {
    if let Some((user, host)) = rest.rsplit_once('@') {
        let name = user.split([':', '/', '?', '#', '@']).next();
        return format!("{}:***@{host}", name.unwrap_or_default());
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (address, tail) = rest.split_at(end);
    // Without an @ a password stands where the port would.
    match address.split_once(':') {
        Some((name, port)) if !name.starts_with('[') && !is_ports(port) => {
            format!("{name}:***{tail}")
        }
        _ => rest.to_owned(),
    }
}

/// A port, perhaps mistyped, and the hosts after it.
fn is_ports(text: &str) -> bool {
    let port = text.split(',').next().unwrap_or_default();
    port.len() <= 5 && (port.is_empty() || port.starts_with(|c: char| c.is_ascii_digit()))
}

/// `part` without the value of a parameter that is named as a password.
fn without_secret(part: &str) -> String {
    let lower = part.to_ascii_lowercase();
    let named = ["password", "passwd", "pwd", "secret"];
    let place = named.iter().filter_map(|name| lower.find(name)).min();
    let Some(value) = place.and_then(|at| Some(at + lower.get(at..)?.find('=')? + 1)) else {
        return part.to_owned();
    };
    let end = if part.ends_with('&') { "&" } else { "" };
    format!("{}***{end}", part.get(..value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_shows_no_password() {
        for (url, shown) in [
            ("postgres://u:hidden@h/d", "postgres://u:***@h/d"),
            ("postgres//u:hidden@h/d", "postgres:***@h/d"),
            ("postgres:/u:hidden@h/d", "postgres:***@h/d"),
            ("postgres:u:hidden@h/d", "postgres:***@h/d"),
            ("postgres;//u:hidden@h/d", "postgres:***@h/d"),
            ("u:hidden@h/d", "u:***@h/d"),
            ("postgres://u/hidden@h/d", "postgres://u:***@h/d"),
            ("u:hidden://x@h", "u://x:***@h"),
            ("postgres://u:hidden/d", "postgres://u:***/d"),
            ("postgres://u:hid@den@h/d", "postgres://u:***@h/d"),
            (
                "postgres://u@h/d?password=hidden&pool=1",
                "postgres://u:***@h/d?password=***&pool=1",
            ),
            (
                "postgres://h/d?sslPassword=hidden",
                "postgres://h/d?sslPassword=***",
            ),
            ("host=h password=hidden user=hidden", "host=h password=***"),
        ] {
            assert_eq!(redact(url), shown);
        }
        for plain in [
            "postgres://h:5432/d?pool=x",
            "postgres://h:54x2/d",
            "kurrentdb://a:2113,b:2113",
            "postgres://[::1]:1/d",
            "sqlite:a@b:c",
            "orders.db",
        ] {
            assert_eq!(redact(plain), plain);
        }
    }

    #[test]
    fn a_scheme_is_a_word() {
        assert_eq!(scheme_of("mysql://h"), Some("mysql"));
        for url in ["host=h password=a:b", "postgres//u:p@h", ":p@h", "x"] {
            assert_eq!(scheme_of(url), None, "{url}");
        }
    }
}
