//! URLs without their passwords.

/// The URL with `****` in place of its password, for logs and screens.
pub fn mask_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // The key=value form of libpq.
        return url
            .split_whitespace()
            .map(|part| match part.split_once('=') {
                Some((key, _)) if key.eq_ignore_ascii_case("password") => format!("{key}=****"),
                _ => part.to_owned(),
            })
            .collect::<Vec<_>>()
            .join(" ");
    };
    // A password may hold a slash or an at sign that nobody encoded: the last at sign ends it.
    let rest = match rest.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:****@{host}"),
            None => format!("{user}@{host}"),
        },
        None => rest.to_owned(),
    };
    let mut out = format!("{scheme}://{rest}");
    if let Some(at) = out.find("password=") {
        let value = at + "password=".len();
        let end = out[value..]
            .find('&')
            .map_or(out.len(), |length| value + length);
        out.replace_range(value..end, "****");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::mask_url;

    #[test]
    fn no_form_shows_the_password() {
        for (url, masked) in [
            ("postgres://u:secret@h:5432/d", "postgres://u:****@h:5432/d"),
            ("postgres://u:se@cr/et@h/d", "postgres://u:****@h/d"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            (
                "postgres://h/d?user=u&password=secret&x=1",
                "postgres://h/d?user=u&password=****&x=1",
            ),
            (
                "host=h password=secret user=u",
                "host=h password=**** user=u",
            ),
        ] {
            assert_eq!(mask_url(url), masked);
        }
    }
}
