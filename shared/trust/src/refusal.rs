//! What a failed TLS handshake says, for whoever must help.

use std::error::Error;
use std::io;

use rustls::CertificateError;

/// Why a server was not believed, or could not be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Signed by an authority that nobody here knows.
    Unknown,
    /// Believed, and for another host.
    OtherHost,
    Expired,
    /// Refused for a reason that is none of these; most often it is an authority's own.
    Unusable,
    /// What answered was no TLS: a port for plain connections.
    NotTls,
    /// It wants a certificate from us, and none can be given.
    WantsCertificate,
}

impl Refusal {
    /// What is wrong, for a sentence that begins with who refused it ("its certificate …").
    pub fn what(self) -> &'static str {
        match self {
            Self::Unknown => "its certificate is signed by an authority that is not believed here",
            Self::OtherHost => "its certificate is not for the host that the address names",
            Self::Expired => {
                "its certificate is not valid now: look at its dates and at both clocks"
            }
            Self::Unusable => {
                "its certificate cannot be used; one that is an authority's own (CA:TRUE, as `openssl req -x509` makes it) is no server's"
            }
            Self::NotTls => "it does not speak TLS at this port",
            Self::WantsCertificate => "it wants a certificate of ours, and none can be given",
        }
    }
}

/// The refusal in an error and its causes, if there is one.
pub fn refusal(error: &(dyn Error + 'static)) -> Option<Refusal> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(said) = error.downcast_ref::<rustls::Error>() {
            return of(said);
        }
        // The error inside an I/O error is not its cause: it must be asked for.
        if let Some(inner) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            let inner: &(dyn Error + 'static) = inner;
            if let Some(found) = refusal(inner) {
                return Some(found);
            }
        }
        at = error.source();
    }
    None
}

fn of(error: &rustls::Error) -> Option<Refusal> {
    use rustls::AlertDescription as Alert;
    Some(match error {
        rustls::Error::InvalidCertificate(why) => match why {
            // The second: one of the same name is believed, such as the authority before it was made anew.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Refusal::Unknown,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Refusal::OtherHost
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Refusal::Expired,
            _ => Refusal::Unusable,
        },
        rustls::Error::InvalidMessage(_) => Refusal::NotTls,
        rustls::Error::AlertReceived(Alert::CertificateRequired) => Refusal::WantsCertificate,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_in_an_error_within_an_error() {
        let said = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = io::Error::new(io::ErrorKind::InvalidData, said);
        assert_eq!(refusal(&error), Some(Refusal::Unknown));
        let around = io::Error::other(error);
        assert_eq!(refusal(&around), Some(Refusal::Unknown));
        assert_eq!(refusal(&io::Error::other("a cable")), None);
    }
}
