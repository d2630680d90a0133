//! Certificates: one authority for the API server, its clients, and the policy server.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Of the library.
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// On the disk.
    #[error("no certificate can be written: {0}")]
    Io(#[from] io::Error),
}

/// An authority, and where its certificates are.
pub struct Pki {
    directory: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// Makes `ca.crt`, and `sa.key` with `sa.pub` for service accounts.
    ///
    /// # Errors
    /// Where nothing can be made or written.
    pub fn new(directory: &Path) -> Result<Self, PkiError> {
        fs::create_dir_all(directory)?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "cluster-tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let pki = Pki {
            directory: directory.to_owned(),
            authority,
        };
        fs::write(pki.path("ca.crt"), pki.authority.pem())?;
        let accounts = KeyPair::generate()?;
        fs::write(pki.path("sa.key"), accounts.serialize_pem())?;
        fs::write(pki.path("sa.pub"), accounts.public_key_pem())?;
        Ok(pki)
    }

    /// A file of it.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn authority(&self) -> String {
        self.authority.pem()
    }

    /// Makes `NAME.crt` and `NAME.key` for a user, of an organisation where it has one, at these addresses.
    ///
    /// # Errors
    /// Where nothing can be made or written.
    pub fn issue(
        &self,
        name: &str,
        user: &str,
        organisation: Option<&str>,
        addresses: &[&str],
    ) -> Result<(), PkiError> {
        let addresses: Vec<String> = addresses.iter().map(|it| (*it).to_owned()).collect();
        let mut params = CertificateParams::new(addresses)?;
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(organisation) = organisation {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organisation);
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority)?;
        fs::write(self.path(&format!("{name}.crt")), certificate.pem())?;
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }
}
