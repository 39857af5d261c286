//! Who may ask: programs of this machine, and no web page.
//!
//! A browser lets any page send requests to 127.0.0.1, and a page whose name resolves to 127.0.0.1 may even read the
//! answers (DNS rebinding). Both show in the headers: `Host` is then the page's name, `Origin` the page's own.

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue, Uri};

/// Is this a request of a program of this machine to `own`, the address that is bound?
///
/// # Errors
///
/// The text of the refusal.
pub(super) fn admit(uri: &Uri, headers: &HeaderMap, own: SocketAddr) -> Result<(), String> {
    let host = only(headers, &HOST)?.ok_or("the header Host is missing")?;
    if !is_own(host, own.port()) {
        return Err(format!("Host is '{host}', expected a loopback address or 'localhost' with port {}", own.port()));
    }
    // An absolute request target goes before Host (RFC 9112, 3.2.2).
    if let Some(authority) = uri.authority().filter(|authority| !is_own(authority.as_str(), own.port())) {
        return Err(format!("the request is for '{authority}', not for this host"));
    }
    match only(headers, &ORIGIN)? {
        None => Ok(()),
        Some(origin) if origin.strip_prefix("http://").is_some_and(|host| is_own(host, own.port())) => Ok(()),
        Some(origin) => Err(format!("Origin is '{origin}': pages of other sites are not answered")),
    }
}

/// The value of a header that may be there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, String> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(format!("the header {name} is there more than once"));
    }
    first.map(HeaderValue::to_str).transpose().map_err(|_| format!("the header {name} is not ASCII"))
}

/// Is `host[:port]` a loopback name or address with that port?
fn is_own(host: &str, own_port: u16) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // A colon within brackets belongs to the address.
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
        _ => (host, Some(80)),
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let loopback =
        name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    loopback && port == Some(own_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(uri: &str, headers: &[(HeaderName, &str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value")));
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value)| {
            map.append(name, value);
        });
        let own = SocketAddr::from(([127, 0, 0, 1], 9091));
        admit(&uri.parse().expect("a target"), &map, own).is_ok()
    }

    #[test]
    fn only_this_machine_is_admitted() {
        for (host, good) in [
            ("127.0.0.1:9091", true),
            ("localhost:9091", true),
            ("LOCALHOST:9091", true),
            ("[::1]:9091", true),
            ("127.8.8.8:9091", true),
            ("127.0.0.1", false),
            ("127.0.0.1:9092", false),
            ("127.0.0.1:", false),
            ("[::1]", false),
            ("evil.example:9091", false),
            ("localhost.evil.example:9091", false),
            ("127.0.0.1.evil.example:9091", false),
            ("10.0.0.1:9091", false),
            ("", false),
        ] {
            assert_eq!(admitted("/healthz", &[(HOST, host)]), good, "Host: {host}");
            let origin = format!("http://{host}");
            let headers = [(HOST, "127.0.0.1:9091"), (ORIGIN, origin.as_str())];
            assert_eq!(admitted("/healthz", &headers), good, "Origin: {origin}");
        }
    }

    #[test]
    fn odd_requests_are_refused() {
        let own = (HOST, "127.0.0.1:9091");
        assert!(!admitted("/healthz", &[]));
        assert!(!admitted("/healthz", &[own.clone(), own.clone()]));
        assert!(!admitted("/healthz", &[own.clone(), (ORIGIN, "null")]));
        assert!(!admitted("/healthz", &[own.clone(), (ORIGIN, "https://127.0.0.1:9091")]));
        assert!(!admitted("http://evil.example/healthz", std::slice::from_ref(&own)));
        assert!(admitted("http://127.0.0.1:9091/healthz", &[own]));
    }
}
