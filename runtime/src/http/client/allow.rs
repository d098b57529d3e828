//! Where guests may send requests: rules `HOST[:PORT]`. What no rule permits is denied.
//!
//! A host is a name, an address, or `*` for all; IPv6 addresses may stand in brackets and must if a port follows. Without a
//! port the rule is for 80 and 443; `:*` is for all ports. Names are compared as they are asked for, before they are resolved.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The rules.
#[derive(Clone, Debug, Default)]
pub struct Allow(Vec<Rule>);

/// One rule, `HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    host: HostRule,
    port: PortRule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostRule {
    Any,
    One(Host),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortRule {
    /// 80 and 443.
    Default,
    Any,
    One(u16),
}

/// A host by its name, in lower case without a final dot, or by its address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// To be resolved.
    Name(String),
    /// To be connected to as it is.
    Address(IpAddr),
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// There is nothing before the port.
    #[error("`{0}` names no host; write HOST or HOST:PORT, with `*` for every host")]
    NoHost(String),
    /// Characters that no host has.
    #[error("`{0}` is not a host; write a name, an address (IPv6 with a port in brackets) or `*`")]
    Host(String),
    /// Not a number from 1 to 65535.
    #[error("`{0}` has no valid port; write a number from 1 to 65535, or `*` for every port")]
    Port(String),
}

impl Allow {
    /// Nothing is permitted.
    pub fn nothing() -> Self {
        Allow::default()
    }

    /// Does a rule permit it?
    pub fn permits(&self, host: &Host, port: u16) -> bool {
        self.0.iter().any(|rule| rule.permits(host, port))
    }
}

impl FromIterator<Rule> for Allow {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        Allow(rules.into_iter().collect())
    }
}

impl Rule {
    fn permits(&self, host: &Host, port: u16) -> bool {
        let host_fits = match &self.host {
            HostRule::Any => true,
            HostRule::One(one) => one == host,
        };
        let port_fits = match self.port {
            PortRule::Default => matches!(port, 80 | 443),
            PortRule::Any => true,
            PortRule::One(one) => one == port,
        };
        host_fits && port_fits
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (host, port) = split_port(text);
        let host = match host {
            "" => return Err(RuleError::NoHost(text.to_string())),
            "*" => HostRule::Any,
            host => HostRule::One(Host::parse(host).ok_or_else(|| RuleError::Host(text.to_string()))?),
        };
        let port = match port {
            None => PortRule::Default,
            Some("*") => PortRule::Any,
            Some(digits) => match digits.parse() {
                Ok(port) if port != 0 && !digits.starts_with('+') => PortRule::One(port),
                _ => return Err(RuleError::Port(text.to_string())),
            },
        };
        Ok(Rule { host, port })
    }
}

/// Splits at the colon of the port, which those of an IPv6 address are not.
fn split_port(text: &str) -> (&str, Option<&str>) {
    let bare_address = text.parse::<Ipv6Addr>().is_ok();
    match text.rsplit_once(':') {
        Some((host, port)) if !bare_address && !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    }
}

impl Host {
    /// A name or an address, IPv6 with or without brackets.
    pub fn parse(text: &str) -> Option<Host> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Some(address) = bare {
            return address.parse().ok().map(|address| Host::Address(IpAddr::V6(address)));
        }
        if let Ok(address) = text.parse() {
            return Some(Host::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let valid = !name.is_empty() && name.bytes().all(of_name);
        valid.then(|| Host::Name(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => address.fmt(f),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(rules: &[&str], host: &str, port: u16) -> bool {
        let rules = rules.iter().map(|rule| rule.parse::<Rule>().expect("a rule"));
        rules.collect::<Allow>().permits(&Host::parse(host).expect("a host"), port)
    }

    #[test]
    fn without_a_port_a_rule_is_for_80_and_443() {
        for (port, permitted) in [(80, true), (443, true), (8080, false), (1, false)] {
            assert_eq!(permits(&["example.com"], "example.com", port), permitted, "{port}");
        }
    }

    #[test]
    fn a_rule_permits_its_host_and_port_alone() {
        assert!(permits(&["example.com:8080"], "example.com", 8080));
        assert!(!permits(&["example.com:8080"], "example.com", 80));
        assert!(!permits(&["example.com"], "www.example.com", 80));
        assert!(!permits(&["example.com"], "example.org", 80));
        assert!(permits(&["a", "b:1"], "b", 1));
        assert!(!permits(&[], "example.com", 80));
    }

    #[test]
    fn names_are_compared_without_case_and_final_dot() {
        assert!(permits(&["Example.COM."], "eXample.com", 443));
        assert!(permits(&["example.com"], "example.com.", 443));
    }

    #[test]
    fn addresses_are_compared_by_value() {
        assert!(permits(&["[::1]:8080"], "[0:0:0:0:0:0:0:1]", 8080));
        assert!(permits(&["::1"], "[::1]", 80));
        assert!(permits(&["127.0.0.1:3000"], "127.0.0.1", 3000));
        assert!(!permits(&["127.0.0.1:3000"], "localhost", 3000), "names are not resolved");
    }

    #[test]
    fn a_star_stands_for_every_host_or_port() {
        assert!(permits(&["*"], "example.com", 443));
        assert!(!permits(&["*"], "example.com", 8080));
        assert!(permits(&["*:8080"], "[::1]", 8080));
        assert!(permits(&["localhost:*"], "localhost", 12345));
        assert!(permits(&["*:*"], "10.0.0.1", 1));
    }

    #[test]
    fn what_is_no_rule_is_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<Rule>().expect_err(text);
        assert_eq!(refused(""), RuleError::NoHost("".into()));
        assert_eq!(refused(":80"), RuleError::NoHost(":80".into()));
        for text in ["http://a", "a b", "*.example.com", "a/b", "[::1", "[a]:1", "user@host"] {
            assert!(matches!(refused(text), RuleError::Host(_) | RuleError::Port(_)), "{text}");
        }
        for text in ["a:", "a:0", "a:65536", "a:http", "a:+1"] {
            assert_eq!(refused(text), RuleError::Port(text.into()));
        }
    }
}
