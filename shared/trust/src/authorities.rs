//! Certificates of authorities, from a file and from the system.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Largest file of certificates that is read; the bundle of a whole system is a quarter of it.
const FILE_LIMIT: u64 = 1024 * 1024;
/// Characters of base64 in a line of PEM.
const LINE: usize = 64;

/// Why a file cannot be believed. The text goes behind the name of the setting and never quotes the file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("must be a file of certificates that can be read: {0}")]
    Unreadable(String),
    #[error("must be a file of certificates: it is larger than {FILE_LIMIT} bytes")]
    TooLarge,
    #[error(
        "must be a file of certificates in PEM (`-----BEGIN CERTIFICATE-----`): there is none in it"
    )]
    Empty,
    #[error("must be a file of certificates in PEM: number {0} in it cannot be read")]
    Broken(usize),
}

/// Whether [`of_file`] will succeed.
///
/// # Errors
/// What is wrong with the file.
pub fn check_file(path: &Path) -> Result<(), Error> {
    of_file(path).map(|_certificates| ())
}

/// All certificates of a PEM file; other things in it, such as keys, are passed over.
///
/// # Errors
/// The file cannot be read, holds no certificate, or one that is none.
pub fn of_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unreadable = |error: std::io::Error| {
        Error::Unreadable(match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            std::io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
            other => other.to_string(),
        })
    };
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err(Error::Unreadable("it is no file".to_owned()));
    }
    if about.len() > FILE_LIMIT {
        return Err(Error::TooLarge);
    }
    of_pem(&std::fs::read(path).map_err(unreadable)?)
}

/// All certificates of a PEM text, as [`of_file`].
///
/// # Errors
/// It holds no certificate, or one that is none.
pub fn of_pem(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    // As some editors begin a file.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut certificates = Vec::new();
    for (at, certificate) in CertificateDer::pem_slice_iter(bytes).enumerate() {
        let certificate = certificate.map_err(|_unsaid| Error::Broken(at + 1))?;
        if !is_usable(&certificate) {
            return Err(Error::Broken(at + 1));
        }
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(Error::Empty);
    }
    Ok(certificates)
}

/// The authorities that this machine believes (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others). None is no error: images
/// without a store are common, and the well-known authorities are compiled in.
pub fn of_system() -> Vec<CertificateDer<'static>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a part of the system's certificates cannot be read");
    }
    let mut certificates = found.certs;
    // Old ones in a system's store are not readable to everybody: one of them must not take the others away.
    certificates.retain(is_usable);
    certificates
}

/// As text, one after the other.
pub fn pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    let mut text = String::new();
    for certificate in certificates {
        let encoded = BASE64_STANDARD.encode(certificate);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(LINE));
            // A `String` takes everything.
            let _ = writeln!(text, "{line}");
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

fn is_usable(certificate: &CertificateDer<'static>) -> bool {
    RootCertStore::empty().add(certificate.clone()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> String {
        rcgen::generate_simple_self_signed(vec!["a.example".to_owned()])
            .unwrap()
            .cert
            .pem()
    }

    fn read(content: impl AsRef<[u8]>) -> Result<usize, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, content).unwrap();
        of_file(&path).map(|found| found.len())
    }

    #[test]
    fn a_file_may_hold_several_certificates_and_what_is_none_is_refused() {
        let (one, other) = (authority(), authority());
        assert_eq!(read(&one), Ok(1));
        assert_eq!(read(format!("\u{feff}# ours\r\n{one}\n{other}")), Ok(2));
        assert_eq!(read(""), Err(Error::Empty));
        assert_eq!(read("ca.pem"), Err(Error::Empty));
        assert_eq!(read([0x30, 0x82, 0x01, 0xff, 0xfe]), Err(Error::Empty));
        let cut: String = other
            .lines()
            .take(4)
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(read(format!("{one}{cut}")), Err(Error::Broken(2)));
        let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(read(format!("{one}{hollow}")), Err(Error::Broken(2)));
        assert_eq!(
            read(vec![b'#'; usize::try_from(FILE_LIMIT).unwrap() + 1]),
            Err(Error::TooLarge)
        );
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("none.pem")] {
            assert!(matches!(check_file(&path), Err(Error::Unreadable(_))));
        }
    }

    #[test]
    fn what_was_read_is_written_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, authority()).unwrap();
        let certificates = of_file(&path).unwrap();
        std::fs::write(&path, pem(&certificates)).unwrap();
        assert_eq!(of_file(&path).unwrap(), certificates);
    }
}
