//! Error codes: what hyper's, the kernel's and TLS errors are called in `wasi:http`, and which status a client gets for one.
//!
//! The codes are the proxy error types of RFC 9209, and so are the statuses.

use super::bindings::wasi::http::types::TlsAlertReceivedPayload;
use super::{ErrorCode, Message};
use http::StatusCode;
use std::error::Error;
use std::{fmt, io};

/// The case in words, and the text of an internal error.
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ErrorCode::InternalError(Some(text)) = self {
            return write!(f, "internal error: {text}");
        }
        let debug = format!("{self:?}");
        let name = debug.split('(').next().unwrap_or_default();
        for (at, letter) in name.char_indices() {
            let space = if at > 0 && letter.is_ascii_uppercase() { " " } else { "" };
            write!(f, "{space}{}", letter.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

impl Error for ErrorCode {}

/// The status that tells a client of a handler's error (RFC 9209, 2.3).
pub fn status_of(error: &ErrorCode) -> StatusCode {
    use ErrorCode as E;
    match error {
        E::DnsTimeout
        | E::ConnectionTimeout
        | E::ConnectionReadTimeout
        | E::ConnectionWriteTimeout
        | E::HttpResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
        E::DestinationUnavailable | E::ConnectionLimitReached => StatusCode::SERVICE_UNAVAILABLE,
        E::DnsError(_)
        | E::DestinationIpProhibited
        | E::DestinationIpUnroutable
        | E::ConnectionRefused
        | E::ConnectionTerminated
        | E::TlsProtocolError
        | E::TlsCertificateError
        | E::TlsAlertReceived(_)
        | E::HttpResponseIncomplete
        | E::HttpResponseHeaderSectionSize(_)
        | E::HttpResponseHeaderSize(_)
        | E::HttpResponseBodySize(_)
        | E::HttpResponseTrailerSectionSize(_)
        | E::HttpResponseTrailerSize(_)
        | E::HttpResponseTransferCoding(_)
        | E::HttpResponseContentCoding(_)
        | E::HttpUpgradeFailed
        | E::HttpProtocolError
        | E::LoopDetected => StatusCode::BAD_GATEWAY,
        E::HttpRequestDenied => StatusCode::FORBIDDEN,
        E::HttpRequestLengthRequired => StatusCode::LENGTH_REQUIRED,
        E::HttpRequestBodySize(_) => StatusCode::PAYLOAD_TOO_LARGE,
        E::HttpRequestMethodInvalid => StatusCode::METHOD_NOT_ALLOWED,
        E::HttpRequestUriInvalid => StatusCode::BAD_REQUEST,
        E::HttpRequestUriTooLong => StatusCode::URI_TOO_LONG,
        E::HttpRequestHeaderSectionSize(_)
        | E::HttpRequestHeaderSize(_)
        | E::HttpRequestTrailerSectionSize(_)
        | E::HttpRequestTrailerSize(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        E::DestinationNotFound | E::ConfigurationError | E::InternalError(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What an error of hyper means, met while `message` was received or its answer awaited.
pub fn hyper_error(error: &hyper::Error, message: Message) -> ErrorCode {
    // A cause that has a code of its own says it best.
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(code) = inner.downcast_ref::<ErrorCode>() {
            return code.clone();
        }
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof => incomplete(message),
                _ => io_error(error),
            };
        }
        cause = inner.source();
    }
    if error.is_incomplete_message() {
        return incomplete(message);
    }
    if error.is_parse_too_large() {
        return match message {
            Message::Request => ErrorCode::HttpRequestHeaderSectionSize(None),
            Message::Response => ErrorCode::HttpResponseHeaderSectionSize(None),
        };
    }
    if error.is_timeout() {
        return ErrorCode::ConnectionReadTimeout;
    }
    if error.is_parse() {
        return ErrorCode::HttpProtocolError;
    }
    ErrorCode::ConnectionTerminated
}

/// A message that stopped in the middle.
fn incomplete(message: Message) -> ErrorCode {
    match message {
        Message::Request => ErrorCode::ConnectionTerminated,
        Message::Response => ErrorCode::HttpResponseIncomplete,
    }
}

/// What an error of a connection means, or of TLS on it.
pub fn io_error(error: &io::Error) -> ErrorCode {
    use io::ErrorKind as Kind;
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls_error(tls);
    }
    match error.kind() {
        Kind::ConnectionRefused => ErrorCode::ConnectionRefused,
        Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::NotConnected
        | Kind::UnexpectedEof => ErrorCode::ConnectionTerminated,
        Kind::TimedOut => ErrorCode::ConnectionTimeout,
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::AddrNotAvailable => ErrorCode::DestinationIpUnroutable,
        Kind::NetworkDown => ErrorCode::DestinationUnavailable,
        Kind::PermissionDenied => ErrorCode::DestinationIpProhibited,
        // hyper's decoders: a chunk size that is none, and such.
        Kind::InvalidInput | Kind::InvalidData => ErrorCode::HttpProtocolError,
        _ => ErrorCode::InternalError(Some(error.to_string())),
    }
}

fn tls_error(error: &rustls::Error) -> ErrorCode {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => ErrorCode::TlsCertificateError,
        rustls::Error::AlertReceived(alert) => ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        }),
        _ => ErrorCode::TlsProtocolError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_code_reads_as_words() {
        assert_eq!(ErrorCode::DnsTimeout.to_string(), "dns timeout");
        assert_eq!(ErrorCode::HttpResponseBodySize(Some(3)).to_string(), "http response body size");
        let internal = ErrorCode::InternalError(Some("no memory".into()));
        assert_eq!(internal.to_string(), "internal error: no memory");
    }

    #[test]
    fn errors_of_a_connection_get_the_code_that_names_them() {
        let code = |kind: io::ErrorKind| io_error(&io::Error::from(kind));
        assert_eq!(code(io::ErrorKind::ConnectionRefused), ErrorCode::ConnectionRefused);
        assert_eq!(code(io::ErrorKind::ConnectionReset), ErrorCode::ConnectionTerminated);
        assert_eq!(code(io::ErrorKind::BrokenPipe), ErrorCode::ConnectionTerminated);
        assert_eq!(code(io::ErrorKind::TimedOut), ErrorCode::ConnectionTimeout);
        assert_eq!(code(io::ErrorKind::NetworkUnreachable), ErrorCode::DestinationIpUnroutable);
        assert_eq!(code(io::ErrorKind::InvalidData), ErrorCode::HttpProtocolError);
    }

    #[test]
    fn errors_of_tls_get_the_code_that_names_them() {
        let code = |error: rustls::Error| io_error(&io::Error::other(error));
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        assert_eq!(code(expired), ErrorCode::TlsCertificateError);
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
        let payload = TlsAlertReceivedPayload { alert_id: Some(40), alert_message: Some("HandshakeFailure".into()) };
        assert_eq!(code(alert), ErrorCode::TlsAlertReceived(payload));
        assert_eq!(code(rustls::Error::DecryptError), ErrorCode::TlsProtocolError);
    }

    #[test]
    fn a_handlers_error_gets_the_status_of_rfc_9209() {
        let status = |error| status_of(&error).as_u16();
        assert_eq!(status(ErrorCode::ConnectionTimeout), 504);
        assert_eq!(status(ErrorCode::ConnectionRefused), 502);
        assert_eq!(status(ErrorCode::ConnectionLimitReached), 503);
        assert_eq!(status(ErrorCode::HttpRequestDenied), 403);
        assert_eq!(status(ErrorCode::InternalError(None)), 500);
    }
}
